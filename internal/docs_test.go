package internal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityModelNamesTests: each test that the document names as its proof exists.
func TestSecurityModelNamesTests(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "docs", "SECURITY-MODEL.md"))
	if err != nil {
		t.Fatal(err)
	}
	missing := make(map[string]bool)
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(raw), -1) {
		missing[m[1]] = true
	}
	if len(missing) < 20 {
		t.Errorf("it names %d tests", len(missing))
	}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for name := range missing {
			if strings.Contains(string(text), "func "+name+"(") {
				delete(missing, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range missing {
		t.Errorf("docs/SECURITY-MODEL.md names %s, and there is no such test", name)
	}
}
