package internal_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md from the metrics that the source declares")

const metricsHead = `<!-- Generated from the source by make reference: change that, not this page. -->
# Metrics reference

` + "`/metrics`" + ` on ` + "`http-listen-addr`" + ` is in the text format of Prometheus. Besides the metrics below it has those of Go, of the process and of the gRPC server.
Metrics of a vBucket carry the labels ` + "`database` and `vbucket`" + `. Alerts and dashboards that use them are in
[deploy](../../deploy/README.md), and [the runbooks](../RUNBOOKS.md) say what to do when an alert fires. The registry reports what it knows of all nodes at
` + "`/metrics/cluster`" + `.

A name that ends in ` + "`_total`" + ` is a counter; ` + "`_duration_seconds`" + ` are histograms or summaries, with ` + "`_sum` and `_count`" + `; all others are gauges. Times are in
seconds and sizes in bytes.
`

// declared is a metric as the source declares it.
type declared struct{ name, help, labels, at string }

// where says which nodes have the metrics of a folder; the first that fits counts.
var where = []struct{ folder, title string }{
	{"internal/app/role/member", "Masters"},
	{"internal/app/role/slave", "Slaves"},
	{"internal/app/role/registry", "Registry"},
	{"internal/app/standbys", "Masters and standalone nodes that wait for slaves"},
	{"internal/server", "Requests, connections and limits"},
	{"internal/ops", "HTTP"},
	{"internal/auth", "Security"},
	{"internal/audit", "Security"},
	{"internal/certs", "Security"},
	{"internal/app/metrics", "Storage, change log and clock"},
	{"", "Every node"},
}

// TestMetricsReferenceIsTheSource: docs/reference/metrics.md lists the metrics that there are.
func TestMetricsReferenceIsTheSource(t *testing.T) {
	all := declarations(t)
	if len(all) < 60 {
		t.Fatalf("only %d metrics are declared", len(all))
	}
	var b strings.Builder
	b.WriteString(metricsHead)
	for i, group := range where {
		if slices.IndexFunc(where, func(w struct{ folder, title string }) bool { return w.title == group.title }) < i {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| metric | labels | meaning |\n|---|---|---|\n", group.title)
		for _, d := range all {
			if titleOf(d.at) == group.title {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", d.name, d.labels, strings.ReplaceAll(d.help, "|", `\|`))
			}
		}
	}
	testkit.Page(t, "../docs/reference/metrics.md", b.String(), *update)
}

func titleOf(folder string) string {
	for _, w := range where {
		if w.folder == "" || folder == w.folder || strings.HasPrefix(folder, w.folder+"/") {
			return w.title
		}
	}
	return ""
}

// declarations finds the metrics in the source: calls with a name and a help text side by
// side, and composite literals with Name and Help.
func declarations(t *testing.T) []declared {
	t.Helper()
	var all []declared
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		tables := make(map[string]string)
		ast.Inspect(file, func(n ast.Node) bool {
			if variable, labels := table(n); variable != "" {
				tables[variable] = labels
			}
			if found := declaration(n, tables); found.name != "" {
				found.at = "internal/" + filepath.ToSlash(filepath.Dir(path))
				all = append(all, found)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b declared) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.at, b.at)) })
	return slices.CompactFunc(all, func(a, b declared) bool { return a.name == b.name && titleOf(a.at) == titleOf(b.at) })
}

var metricName = regexp.MustCompile(`^dkv_[a-z0-9_]*[a-z0-9]$`)

// table returns the variable that is given a new metrics.Table, and the labels of its metrics.
func table(n ast.Node) (variable, labelled string) {
	assign, is := n.(*ast.AssignStmt)
	if !is || len(assign.Lhs) != 1 {
		return "", ""
	}
	to, named := assign.Lhs[0].(*ast.Ident)
	call, calls := assign.Rhs[0].(*ast.CallExpr)
	if !named || !calls {
		return "", ""
	}
	of, generic := call.Fun.(*ast.IndexExpr)
	if !generic {
		return "", ""
	}
	if made, is := of.X.(*ast.SelectorExpr); !is || made.Sel.Name != "NewTable" {
		return "", ""
	}
	return to.Name, labels(call.Args[1:])
}

// declaration is the metric that a node declares, if it does; tables are the labels of those in
// tables, by the variable.
func declaration(n ast.Node, tables map[string]string) (d declared) {
	switch n := n.(type) {
	case *ast.CallExpr:
		for i, arg := range n.Args {
			if name := text(arg); metricName.MatchString(name) && i+1 < len(n.Args) && strings.Contains(text(n.Args[i+1]), " ") {
				d = declared{name: name, help: text(n.Args[i+1]), labels: labels(n.Args[i+2:])}
			}
		}
		if called, is := n.Fun.(*ast.SelectorExpr); is && d.name != "" {
			if to, is := called.X.(*ast.Ident); is {
				d.labels = cmp.Or(d.labels, tables[to.Name])
			}
		}
	case *ast.CompositeLit:
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				switch field, _ := kv.Key.(*ast.Ident); {
				case field == nil:
				case field.Name == "Name" && metricName.MatchString(text(kv.Value)):
					d.name = text(kv.Value)
				case field.Name == "Help":
					d.help = text(kv.Value)
				case field.Name == "ConstLabels":
					d.labels = labels([]ast.Expr{kv.Value})
				}
			}
		}
		if d.help == "" {
			d.name = ""
		}
	}
	return d
}

// text is the value of a string literal or of several that are joined; "" for anything else.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value)
			return s
		}
	case *ast.BinaryExpr:
		if a, b := text(e.X), text(e.Y); a != "" && b != "" {
			return a + b
		}
	}
	return ""
}

// labels are the names in the arguments after the help, apart from those that all have.
func labels(args []ast.Expr) string {
	var names []string
	for _, a := range args {
		ast.Inspect(a, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				if s := text(e); s != "" && s != "vbucket" && s != "database" && !slices.Contains(names, "`"+s+"`") {
					names = append(names, "`"+s+"`")
				}
			}
			_, function := n.(*ast.FuncLit)
			return !function
		})
	}
	return strings.Join(names, ", ")
}
