package api_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/testkit"
)

var update = flag.Bool("update", false, "write docs/reference/grpc.md and grpc-nodes.md from api/*.proto")

const (
	generated   = "<!-- Generated from api/*.proto by make reference: change those, not this page. -->\n"
	clientsHead = generated + `# gRPC reference

What clients, operators, slaves and the registry call, on the port of ` + "`listen-addr`" + `. Names, numbers and types below 100 are fixed, since clients in the
field use them; extensions have numbers from 100 on. The column *role* is what the caller needs where ` + "`auth-file`" + ` is set, as in
[the table of calls](../ACCESS.md). The services that nodes call among themselves have [a page of their own](grpc-nodes.md). The standard
` + "`grpc.health.v1.Health`" + ` and, with ` + "`grpc-reflection`" + `, server reflection are served as well.
`
	nodesHead = generated + `# gRPC between nodes

What nodes of DKV call among themselves. Clients do not need it; it is here for those who read a trace or change DKV. The services
for clients are in [the gRPC reference](grpc.md).
`
)

// TestReferenceIsTheProtocol: the pages of the gRPC API describe the services and messages
// that there are, in the words of their comments.
func TestReferenceIsTheProtocol(t *testing.T) {
	files := described(t)
	for page, head := range map[string]string{"grpc.md": clientsHead, "grpc-nodes.md": nodesHead} {
		var b strings.Builder
		b.WriteString(head)
		for _, name := range []string{"api.proto", "admin.proto", "models.proto", "standby.proto", "peer.proto"} {
			f, err := files.FindFileByPath("api/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if between := f.Package() == "dkv.peerpb"; between == (page == "grpc-nodes.md") {
				writeFile(&b, f)
			}
		}
		testkit.Page(t, filepath.Join("../docs/reference", page), b.String(), *update)
	}
}

// described returns the protocol files with their comments, which generated code lacks.
func described(t *testing.T) *protoregistry.Files {
	t.Helper()
	out := filepath.Join(t.TempDir(), "descriptors")
	protos, err := filepath.Glob("*.proto")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-I", ".", "--include_imports", "--include_source_info", "--descriptor_set_out=" + out}
	for _, p := range protos {
		args = append(args, "api/"+p)
	}
	protoc := exec.Command("protoc", args...)
	protoc.Dir = ".."
	if text, err := protoc.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v (make test-deps installs it)\n%s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func writeFile(b *strings.Builder, f protoreflect.FileDescriptor) {
	for i := range f.Services().Len() {
		writeService(b, f.Services().Get(i))
	}
	fmt.Fprintf(b, "\n## Messages of %s\n", filepath.Base(f.Path()))
	writeEnums(b, f.Enums())
	writeMessages(b, f.Messages())
}

func writeService(b *strings.Builder, s protoreflect.ServiceDescriptor) {
	fmt.Fprintf(b, "\n## %s\n\n`%s`. %s\n\n| method | request | response | role | does |\n|---|---|---|---|---|\n", s.Name(), s.FullName(), comment(s))
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		role := "-" // on the Raft port, for nodes only
		if row := access.Method(fmt.Sprintf("/%s/%s", s.FullName(), m.Name())); row != nil {
			role = string(row.Role)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", m.Name(),
			message(m.IsStreamingClient(), m.Input()), message(m.IsStreamingServer(), m.Output()), role, comment(m))
	}
}

func message(stream bool, m protoreflect.MessageDescriptor) string {
	if stream {
		return "stream of " + link(m)
	}
	return link(m)
}

// link names a type, with a link if it is described on the page.
func link(d protoreflect.Descriptor) string {
	if !strings.HasPrefix(string(d.FullName()), "dkv.") {
		return fmt.Sprintf("`%s`", d.FullName())
	}
	page := ""
	if d.ParentFile().Package() != "dkv.peerpb" {
		page = "grpc.md"
	}
	return fmt.Sprintf("[%s](%s#%s)", local(d), page, strings.ToLower(strings.ReplaceAll(local(d), ".", "")))
}

// local is the name of a type inside of its package.
func local(d protoreflect.Descriptor) string {
	return strings.TrimPrefix(string(d.FullName()), string(d.ParentFile().Package())+".")
}

func writeMessages(b *strings.Builder, all protoreflect.MessageDescriptors) {
	for i := range all.Len() {
		m := all.Get(i)
		if m.IsMapEntry() {
			continue
		}
		title(b, m)
		if m.Fields().Len() == 0 {
			b.WriteString("\nIt has no fields.\n")
		} else {
			b.WriteString("\n| number | field | type | meaning |\n|---|---|---|---|\n")
		}
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			fmt.Fprintf(b, "| %d | `%s` | %s | %s |\n", f.Number(), f.Name(), typeOf(f), comment(f))
		}
		writeEnums(b, m.Enums())
		writeMessages(b, m.Messages())
	}
}

func title(b *strings.Builder, d protoreflect.Descriptor) {
	fmt.Fprintf(b, "\n### %s\n", local(d))
	if text := comment(d); text != "" {
		fmt.Fprintf(b, "\n%s\n", text)
	}
}

func writeEnums(b *strings.Builder, all protoreflect.EnumDescriptors) {
	for i := range all.Len() {
		e := all.Get(i)
		title(b, e)
		b.WriteString("\n| number | value | meaning |\n|---|---|---|\n")
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			fmt.Fprintf(b, "| %d | `%s` | %s |\n", v.Number(), v.Name(), comment(v))
		}
	}
}

func typeOf(f protoreflect.FieldDescriptor) string {
	if f.IsMap() {
		return fmt.Sprintf("map of %s to %s", f.MapKey().Kind(), typeOf(f.MapValue()))
	}
	text := f.Kind().String()
	switch {
	case f.Message() != nil:
		text = link(f.Message())
	case f.Enum() != nil:
		text = link(f.Enum())
	}
	if f.IsList() {
		return "list of " + text
	}
	return text
}

// comment is what stands above a declaration, on one line.
func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "{{", "{&#8203;{", "*", `\*`).Replace(strings.Join(strings.Fields(text), " "))
}
