package access_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
)

// declared are the methods of all services that the program's protocols declare.
func declared() (out []string) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for m := range s.Methods().Len() {
				out = append(out, fmt.Sprintf("/%s/%s", s.FullName(), s.Methods().Get(m).Name()))
			}
		}
		return true
	})
	return out
}

// TestEveryMethodHasARow: a method without a row could be called by no one, and a row
// without a method is a mistyped one.
func TestEveryMethodHasARow(t *testing.T) {
	all := declared()
	if len(all) < 30 {
		t.Fatalf("only %d methods are declared", len(all))
	}
	elsewhere := access.Elsewhere()
	for _, method := range all {
		if at := slices.Contains(elsewhere, method); (access.Method(method) != nil) == at {
			t.Errorf("%s: it has a row: %v, it is on the Raft port: %v; it must be one of them", method, !at, at)
		}
	}
	for _, r := range access.Methods() {
		if !slices.Contains(all, r.Call) {
			t.Errorf("%s has a row and is no method", r.Call)
		}
	}
}

// TestRowsAreComplete: each row has a role that exists, once.
func TestRowsAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range slices.Concat(access.Methods(), access.Paths()) {
		switch r.Role {
		case auth.Read, auth.Write, auth.Watch, auth.Replication, auth.Admin, auth.Node, access.Any, access.Everyone:
		default:
			t.Errorf("%s has the role %q", r.Call, r.Role)
		}
		if seen[r.Call] || r.About == "" {
			t.Errorf("%s: %+v", r.Call, r)
		}
		seen[r.Call] = true
	}
}

func TestPathsBelowOneWithASlash(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/metrics": "/metrics", "/debug/pprof/": "/debug/pprof/", "/debug/pprof/profile": "/debug/pprof/",
		"/metrics/other": "", "/x": "", "/admin": "", "/admin/backup/x": "", "": "", "x": "",
	} {
		got := ""
		if r := access.Path(path); r != nil {
			got = r.Call
		}
		if got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

var update = flag.Bool("update", false, "write the table into the documentation")

const (
	document = "../../docs/ACCESS.md"
	begin    = "<!-- table of internal/access: go test ./internal/access -update -->\n"
	end      = "<!-- end of the table -->\n"
)

// TestDocumentationHasTheTable: what the documentation promises is what is enforced.
func TestDocumentationHasTheTable(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	had, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", document)
	}
	want := table()
	if *update {
		if err := os.WriteFile(document, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if had != want {
		t.Errorf("the table in %s is out of date; run go test ./internal/access -run TestDocumentationHasTheTable -update", document)
	}
}

// table is the table for the documentation.
func table() string {
	var out strings.Builder
	write := func(title string, rows []access.Row) {
		fmt.Fprintf(&out, "\n| %s | role | about |\n|---|---|---|\n", title)
		for _, r := range rows {
			about := r.About
			if r.Local {
				about = strings.TrimPrefix(about+"; without authentication from this machine only", "-; ")
			}
			call := strings.TrimPrefix(strings.TrimPrefix(r.Call, "/dkv.serverpb."), "/dkv.peerpb.")
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", call, r.Role, about)
		}
	}
	write("gRPC method", access.Methods())
	write("HTTP path", access.Paths())
	out.WriteString("\n")
	return out.String()
}
