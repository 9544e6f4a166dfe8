// Package internal_test holds the packages to the direction that their imports
// are allowed to take.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dkvdb/dkv"

// listed is what go list tells of a package.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
}

// own is the package's path within the module; "" for another module's.
func (p *listed) own() string {
	if path, ok := strings.CutPrefix(p.ImportPath, module+"/"); ok {
		return path
	}
	return ""
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles,Imports,Deps", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		if p.own() != "" {
			packages = append(packages, p)
		}
	}
}

// onlyIn names libraries and the packages that each of them may be imported by. "C"
// is cgo.
var onlyIn = map[string][]string{
	"github.com/lni/dragonboat":     {"internal/replica/raft", "internal/replica/raft/host", "internal/replica/raft/tail", "internal/replica/raft/transport", "internal/replica/raft/wal", "internal/replica/raft/wal/former"},
	"github.com/cockroachdb/pebble": {"internal/replica/raft/wal/former"},
	"github.com/linxGnu/grocksdb":   {"internal/storage/rocksdb"},
	"C":                             {"internal/storage/rocksdb", "internal/timerslack"},
	"github.com/dgraph-io/badger":   {"internal/storage/badger"},
	"github.com/go-jose/go-jose":    {"internal/auth/jwt"},
	"go.yaml.in/yaml":               {"internal/config", "internal/auth/policy", "internal/ctl/authfile"},
}

// mayImport names the packages of ours that a package may import. A package
// that is not here may import any but those that only the root of the program
// does.
var mayImport = map[string][]string{
	"internal/kv":                {},
	"internal/sleep":             {},
	"internal/timerslack":        {},
	"internal/task":              {},
	"internal/periodic":          {"internal/sleep"},
	"internal/crc":               {},
	"internal/era":               {"internal/kv"},
	"internal/compress":          {},
	"internal/durable":           {},
	"internal/signal":            {},
	"internal/fair":              {"internal/kv"},
	"internal/clock":             {"internal/signal"},
	"internal/timing":            {},
	"internal/certs":             {"internal/signal", "internal/sleep"},
	"internal/faults":            {},
	"internal/certs/dial":        {"internal/certs", "internal/faults"},
	"internal/certs/nodeport":    {"internal/certs"},
	"internal/auth":              {},
	"internal/access":            {"internal/auth", "internal/kv", "api/serverpb", "api/peerpb"},
	"internal/auth/token":        {},
	"internal/auth/policy":       {"internal/auth", "internal/auth/token", "internal/suggest"},
	"internal/auth/jwt":          {"internal/auth/policy"},
	"internal/auth/identify":     {"internal/auth", "internal/auth/policy", "internal/auth/token", "internal/auth/jwt", "internal/auth/brake", "internal/certs"},
	"internal/auth/brake":        {},
	"internal/command":           {"internal/kv"},
	"internal/histogram":         {},
	"internal/storage":           {"internal/histogram"},
	"internal/storage/datadir":   {"internal/storage", "internal/durable"},
	"internal/storage/diskspace": {"internal/periodic", "internal/storage"},
	"internal/storage/memory":    {"internal/storage", "internal/crc", "internal/durable"},
	"internal/storage/badger":    {"internal/storage/rowcache", "internal/histogram", "internal/storage", "internal/crc", "internal/durable"},
	"internal/storage/rocksdb":   {"internal/histogram", "internal/storage", "internal/storage/rowcache", "internal/crc", "internal/durable"},
	"internal/storage/rowcache":  {"internal/storage"},
	"internal/changelog":         {"internal/kv", "internal/command", "internal/storage"},
	"internal/fsm":               {"internal/kv", "internal/task", "internal/command", "internal/storage", "internal/changelog", "internal/signal", "internal/era", "internal/fsm/chunks", "internal/fsm/history", "internal/fsm/layout", "internal/fsm/requests"},
	"internal/fsm/chunks":        {"internal/kv", "internal/storage", "internal/changelog", "internal/fsm/history", "internal/fsm/layout"},
	"internal/fsm/history":       {"internal/kv", "internal/storage"},
	"internal/fsm/layout":        {"internal/kv", "internal/command", "internal/storage", "internal/fsm/history"},
	"internal/fsm/offline": {"internal/kv", "internal/command", "internal/storage", "internal/changelog", "internal/era",
		"internal/fsm/chunks", "internal/fsm/history", "internal/fsm/layout", "internal/fsm/requests"},
	"internal/fsm/requests": {"internal/kv", "internal/command", "internal/storage"},
	"internal/backup":       {"internal/kv", "internal/task", "internal/storage", "internal/durable"},
	"internal/replica":      {"internal/kv", "internal/command", "internal/storage", "internal/fsm", "internal/fsm/chunks", "internal/timing"},
	"internal/replica/state": {"internal/kv", "internal/era", "internal/task", "internal/command", "internal/storage", "internal/storage/datadir", "internal/storage/diskspace",
		"internal/changelog", "internal/fsm", "internal/fsm/offline", "internal/backup", "internal/clock", "internal/fair", "internal/signal", "internal/periodic", "internal/replica", "internal/durable"},
	"internal/replica/local": {"internal/kv", "internal/task", "internal/command", "internal/storage", "internal/fsm", "internal/fsm/offline", "internal/backup", "internal/periodic",
		"internal/replica", "internal/replica/state", "internal/durable"},
	"internal/replica/follower": {"internal/kv", "internal/command", "internal/storage", "internal/changelog", "internal/fsm", "internal/fsm/chunks",
		"internal/signal", "internal/sleep", "internal/periodic", "internal/replica", "internal/replica/state", "internal/durable"},
	"internal/replica/raft": {"internal/kv", "internal/era", "internal/task", "internal/command", "internal/storage", "internal/storage/diskspace", "internal/fsm", "internal/backup", "internal/timing", "internal/periodic", "internal/sleep",
		"internal/replica", "internal/replica/state", "internal/replica/raft/host", "internal/replica/raft/filestream", "internal/replica/raft/lease", "internal/replica/raft/tail", "internal/replica/raft/wal"},
	"internal/replica/raft/host": {"internal/periodic", "internal/faults", "internal/kv", "internal/storage", "internal/storage/datadir", "internal/storage/diskspace", "internal/timing",
		"internal/certs", "internal/replica", "internal/replica/state", "internal/replica/raft/transport", "internal/replica/raft/wal", "internal/replica/raft/wal/former", "internal/crc", "internal/durable"},
	"internal/replica/raft/tail":       {"internal/command", "internal/replica/raft/host", "internal/replica/raft/wal"},
	"internal/replica/raft/wal":        {"internal/faults", "internal/histogram", "internal/storage", "internal/crc", "internal/durable", "internal/replica/raft/wal/former"},
	"internal/replica/raft/wal/former": {},
	"internal/replica/raft/filestream": {"internal/fsm/chunks", "internal/storage", "internal/crc", "internal/durable"},
	"internal/replica/raft/lease":      {"internal/periodic", "internal/kv", "internal/command", "internal/signal"},
	"internal/replica/raft/transport":  {"internal/faults", "internal/certs", "internal/certs/dial", "internal/certs/nodeport", "internal/conns", "internal/crc"},
	"internal/cluster/bootstrap":       {"internal/periodic", "internal/certs", "internal/certs/dial", "internal/certs/nodeport", "internal/timing", "api/peerpb", "internal/crc", "internal/durable"},
	"internal/forward":                 {"internal/kv"},
	"internal/peer":                    {"internal/kv", "internal/certs", "internal/certs/dial", "internal/forward", "api/peerpb"},
	"internal/route":                   {"internal/kv", "internal/forward", "internal/auth", "internal/replica", "internal/peer", "internal/sleep", "api/serverpb"},
	"internal/master": {"internal/kv", "internal/command", "internal/storage", "internal/changelog", "internal/fsm",
		"internal/replica", "internal/route", "internal/fair", "api/serverpb"},
	"internal/master/backups":     {"internal/kv", "internal/era", "internal/task", "internal/backup", "internal/replica", "internal/route", "api/serverpb"},
	"internal/master/maintenance": {"internal/kv", "internal/task", "internal/command", "internal/replica", "internal/route", "internal/timing", "api/serverpb", "api/modelspb"},
	"internal/master/replication": {"internal/kv", "internal/command", "internal/changelog", "internal/fsm", "internal/fsm/history", "internal/replica", "internal/route",
		"internal/fair", "internal/sleep", "api/serverpb", "internal/compress", "internal/crc"},
	"internal/cluster":            {"internal/periodic", "internal/kv", "internal/task", "internal/certs", "internal/clock", "internal/timing", "internal/replica", "internal/route", "internal/cluster/bootstrap", "internal/peer", "internal/sleep", "api/peerpb", "api/serverpb", "api/modelspb"},
	"internal/slave":              {"internal/kv", "internal/clock", "internal/storage", "internal/fsm", "internal/fsm/chunks", "internal/fsm/history", "internal/peer", "internal/signal", "internal/sleep", "api/serverpb", "internal/compress", "internal/crc", "internal/slave/report", "internal/slave/source", "internal/era"},
	"internal/slave/report":       {"internal/kv", "internal/peer", "internal/sleep", "api/peerpb"},
	"internal/slave/source":       {"internal/era", "internal/fsm/history", "internal/signal", "api/serverpb"},
	"internal/discovery":          {"internal/kv", "internal/auth", "internal/command", "internal/storage", "internal/replica", "internal/peer", "internal/route", "internal/signal", "internal/sleep", "internal/discovery/record", "internal/era", "api/serverpb", "api/peerpb"},
	"internal/discovery/record":   {"internal/kv", "internal/command", "internal/storage", "internal/replica", "internal/replica/raft/lease", "internal/peer", "internal/standby", "api/peerpb"},
	"internal/discovery/announce": {"internal/kv", "internal/peer", "internal/signal", "api/serverpb", "internal/crc", "internal/durable"},
	"clients/go/dkv":              {"internal/kv", "internal/era", "internal/peer", "internal/signal", "internal/sleep", "api/serverpb"},
	"clients/go/dkv/admin":        {"api/serverpb"},
	"internal/ctl/verify":         {"internal/sleep", "internal/ctl/nodes", "internal/ctl/output", "api/serverpb", "clients/go/dkv/admin"},
	"internal/ctl/survey":         {"internal/timing", "internal/ctl/nodes", "internal/ctl/output", "api/serverpb", "api/modelspb"},
	// They know no role.
	"internal/conns":     {},
	"internal/logfile":   {},
	"internal/tracing":   {"internal/kv"},
	"internal/accesslog": {"internal/logfile"},
	"internal/audit":     {"internal/periodic", "internal/auth", "internal/conns", "internal/logfile"},
	"internal/quota":     {"internal/auth"},
	"internal/server":    {"internal/periodic", "internal/kv", "internal/sleep", "internal/forward", "api/peerpb", "internal/certs", "internal/conns", "internal/fair", "internal/auth", "internal/access", "internal/accesslog", "internal/audit", "internal/quota", "internal/tracing"},
	"internal/ops":       {"internal/certs", "internal/conns", "internal/auth", "internal/access", "internal/kv", "internal/accesslog", "internal/audit", "internal/logfile", "internal/tracing", "internal/ops/nodes", "internal/ops/keys"},
	"internal/ops/keys":  {"internal/kv", "api/serverpb"},
	"internal/ops/nodes": {"internal/sleep", "internal/fair", "internal/kv", "internal/conns"},
	"internal/console":   {},
	"internal/telemetry": {"internal/version"},
	"internal/app/recovery": {"internal/kv", "internal/era", "internal/command", "internal/storage", "internal/storage/datadir", "internal/fsm", "internal/fsm/offline", "internal/replica", "internal/replica/raft/host", "internal/replica/raft/tail",
		"internal/cluster/bootstrap", "internal/standby", "internal/standby/promotion", "internal/durable", "internal/config", "internal/app/node", "internal/app/succession"},
	"internal/app/restoration": {"internal/kv", "internal/era", "internal/storage", "internal/fsm/history", "internal/fsm/offline", "internal/backup", "internal/replica/state", "internal/replica/raft/host",
		"internal/config", "internal/app/node"},
	// Initialised before what it would import.
	"internal/app/signals": {},
	"internal/config":      {"internal/suggest", "internal/timing"},
}

// root are the packages that only main packages may import.
var root = []string{"internal/app", "internal/testcluster"}

// testOnly are the packages that only tests import, and each other. tools/bench runs
// programs as tests do.
var testOnly = []string{"internal/testkit", "internal/testkit/certs", "internal/testkit/man", "internal/testkit/process", "internal/testkit/rawgrpc", "internal/testkit/seed", "tests/deploy/scraped", "tests/hostile/attack", "internal/access/accesstest", "internal/server/servertest", "internal/master/mastertest", "internal/replica/replicatest", "internal/fsm/fsmtest", "internal/storage/enginetest", "tools/bench", "tools/bench/systems"}

// belowGRPC are the packages that must not know gRPC, not even through others.
var belowGRPC = []string{
	"internal/kv", "internal/command", "internal/storage", "internal/changelog", "internal/fsm", "internal/replica",
	"internal/backup",
}

// violations returns what breaks a rule.
func violations(packages []listed) []string {
	var out []string
	report := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for i := range packages {
		p := &packages[i]
		for _, imported := range p.Imports {
			for library, places := range onlyIn {
				if within(imported, library) && !slices.Contains(places, p.own()) {
					report("%s imports %s, which only %s may", p.own(), imported, strings.Join(places, " and "))
				}
			}
			ours, is := strings.CutPrefix(imported, module+"/")
			if !is {
				continue
			}
			if allowed, known := mayImport[p.own()]; known && !slices.Contains(allowed, ours) {
				report("%s imports %s", p.own(), ours)
			}
			if slices.Contains(testOnly, ours) && !slices.Contains(testOnly, p.own()) {
				report("%s imports %s, which only tests may", p.own(), ours)
			}
			if slices.Contains(root, ours) && !strings.HasPrefix(p.own(), "cmd/") {
				report("%s imports %s", p.own(), ours)
			}
		}
		for _, below := range belowGRPC {
			// The test suite of the engines is no part of the program.
			if !within(p.own(), below) || p.own() == "internal/storage/enginetest" {
				continue
			}
			for _, dep := range p.Deps {
				if within(dep, "google.golang.org/grpc") {
					report("%s depends on %s", p.own(), dep)
				}
			}
		}
	}
	return out
}

// within reports whether a package's path is another's, or is below it.
func within(path, other string) bool {
	return path == other || strings.HasPrefix(path, other+"/")
}

func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("go list knows only %d packages", len(packages))
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

// TestImportRulesCanFail breaks each rule once.
func TestImportRulesCanFail(t *testing.T) {
	for _, c := range []struct {
		from, imports, dep, want string
	}{
		{"internal/fsm", module + "/internal/replica", "", "internal/fsm imports internal/replica"},
		{"internal/slave", module + "/internal/master", "", "internal/slave imports internal/master"},
		{"internal/server", module + "/internal/master", "", "internal/server imports internal/master"},
		{"internal/ctl", module + "/internal/app", "", "internal/ctl imports internal/app"},
		{"internal/app", "github.com/lni/dragonboat/v4", "", "internal/app imports github.com/lni/dragonboat/v4, which only internal/replica/raft and internal/replica/raft/host and internal/replica/raft/tail and internal/replica/raft/transport and internal/replica/raft/wal and internal/replica/raft/wal/former may"},
		{"internal/storage/badger", "C", "", "internal/storage/badger imports C, which only internal/storage/rocksdb and internal/timerslack may"},
		{"internal/storage/memory", "", "google.golang.org/grpc/codes", "internal/storage/memory depends on google.golang.org/grpc/codes"},
		{"internal/app", module + "/internal/testkit", "", "internal/app imports internal/testkit, which only tests may"},
		{"internal/server/servertest", module + "/internal/testkit", "", ""},
		{"internal/replica/raft", "github.com/lni/dragonboat/v4", "", ""},
		{"internal/replica/local", "github.com/lni/dragonboat/v4", "", "internal/replica/local imports github.com/lni/dragonboat/v4, which only internal/replica/raft and internal/replica/raft/host and internal/replica/raft/tail and internal/replica/raft/transport and internal/replica/raft/wal and internal/replica/raft/wal/former may"},
		{"internal/storage/badger", "github.com/dgraph-io/badger/v4", "", ""},
		{"internal/kvx", module + "/internal/replica", "google.golang.org/grpc", ""},
		{"cmd/dkvsrv", module + "/internal/app", "google.golang.org/grpc", ""},
	} {
		p := listed{ImportPath: module + "/" + c.from}
		if c.imports != "" {
			p.Imports = []string{c.imports}
		}
		if c.dep != "" {
			p.Deps = []string{c.dep}
		}
		if got := strings.Join(violations([]listed{p}), "\n"); got != c.want {
			t.Errorf("%s: %q, want %q", c.from, got, c.want)
		}
	}
}

// deterministic are the packages in which the log's clock is the only one.
var deterministic = []string{"internal/command", "internal/storage", "internal/changelog", "internal/fsm", "internal/fsm/chunks", "internal/fsm/history",
	"internal/fsm/layout", "internal/fsm/offline", "internal/fsm/requests"}

func TestNoWallClock(t *testing.T) {
	checked := 0
	for _, p := range list(t) {
		if !slices.Contains(deterministic, p.own()) {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			checked++
			path := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range wallClock(f) {
				t.Errorf("%s: %s reads the local clock", p.own(), fset.Position(use))
			}
		}
	}
	if checked < len(deterministic) {
		t.Fatalf("only %d files were looked at", checked)
	}
}

// wallClock finds the uses of package time that read a clock or wait for one.
func wallClock(f *ast.File) []token.Pos {
	var out []token.Pos
	name := ""
	for _, spec := range f.Imports {
		if spec.Path.Value == `"time"` {
			if name = "time"; spec.Name != nil {
				name = spec.Name.Name
			}
		}
	}
	if name == "" {
		return nil
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if ok && id.Name == name {
			switch sel.Sel.Name {
			case "Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTicker", "NewTimer":
				out = append(out, sel.Pos())
			}
		}
		return true
	})
	return out
}

func TestWallClockIsFound(t *testing.T) {
	for src, want := range map[string]int{
		`package x; import "time"; var a = time.Now()`:                  1,
		`package x; import clock "time"; var a = clock.Since(b)`:        1,
		`package x; import "time"; var a = time.Now`:                    1,
		`package x; import "time"; var a = time.Unix(0, 0)`:             0,
		`package x; import "math"; type time struct{ Now int }`:         0,
		`package x; import "time"; const a = time.Second; var Now 	int`: 0,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", src, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(wallClock(f)); got != want {
			t.Errorf("%d uses found in %s", got, src)
		}
	}
}

// backticked are the words between backticks.
var backticked = regexp.MustCompile("`([^`]+)`")

// named returns the packages that the table of a document names: by their paths in a
// row's first column, or by the rest of the path anywhere in the row.
func named(document string) map[string]bool {
	out := make(map[string]bool)
	for row := range strings.Lines(document) {
		columns := strings.Split(row, "|")
		if len(columns) < 3 {
			continue
		}
		for _, room := range backticked.FindAllStringSubmatch(columns[1], -1) {
			out[room[1]] = true
			for _, word := range backticked.FindAllStringSubmatch(columns[2], -1) {
				out[room[1]+"/"+word[1]] = true
			}
		}
	}
	return out
}

// TestEveryPackageIsOnTheMap keeps docs/ARCHITECTURE.md complete.
func TestEveryPackageIsOnTheMap(t *testing.T) {
	document, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	known := named(string(document))
	for _, p := range list(t) {
		if path := p.own(); !known[path] && path != "internal" && !within(path, "cmd") {
			t.Errorf("docs/ARCHITECTURE.md does not say what %s is", path)
		}
	}
	if named("| `internal/a` | `b` | \n")["internal/a/c"] || !named("| `internal/a`, `x` | has `b` |\n")["internal/a/b"] {
		t.Error("the table is not read as it is written")
	}
}
