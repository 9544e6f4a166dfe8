package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// skips finds the calls that skip a test.
func skips(f *ast.File) (found []token.Pos) {
	ast.Inspect(f, func(n ast.Node) bool {
		if guard, is := n.(*ast.IfStmt); is && isShort(guard.Cond) {
			return false // go test -short was asked for
		}
		call, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		if sel, is := call.Fun.(*ast.SelectorExpr); is {
			switch sel.Sel.Name {
			case "Skip", "Skipf", "SkipNow":
				found = append(found, sel.Pos())
			}
		}
		return true
	})
	return found
}

func isShort(cond ast.Expr) bool {
	call, is := cond.(*ast.CallExpr)
	if !is {
		return false
	}
	sel, is := call.Fun.(*ast.SelectorExpr)
	return is && sel.Sel.Name == "Short"
}

// A test that skips itself says nothing, and go test does not show that: what a host
// cannot do is left to testkit.SkipFault, which reports it, or fails in CI.
func TestNothingIsSkippedSilently(t *testing.T) {
	checked := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		if within(filepath.ToSlash(path), "../internal/testkit") || strings.HasSuffix(path, "enginetest/recorder_test.go") {
			return nil // the report itself, and a fake of testing.T
		}
		checked++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, pos := range skips(f) {
			t.Errorf("%s: a test is skipped without a report: use testkit.SkipFault", fset.Position(pos))
		}
		return nil
	})
	if err != nil || checked < 100 {
		t.Errorf("%d files looked at, %v", checked, err)
	}
}

func TestSkipsAreFound(t *testing.T) {
	for src, want := range map[string]int{
		`package x; func f() { t.Skip("why") }`:                         1,
		`package x; func f() { if true { t.Skipf("why") } }`:            1,
		`package x; func f() { t.SkipNow(); b.Skip() }`:                 2,
		`package x; func f() { if testing.Short() { t.Skip("slow") } }`: 0,
		`package x; func f() { testkit.SkipFault(t, "x", err) }`:        0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(skips(f)); got != want {
			t.Errorf("%d skips found in %s", got, src)
		}
	}
}
