package e2e

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// earlier is a node of the earlier system: its iterations do not say when keys expire, and its
// MultiGet leaves out empty values. Keys of gone go after they were iterated over.
type earlier struct {
	serverpb.UnimplementedDKVServer
	pairs []*serverpb.KVPair
	gone  string
}

func (e *earlier) Iterate(_ *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	for _, p := range e.pairs {
		if err := s.Send(&serverpb.IterateResponse{Key: p.Key, Value: p.Value}); err != nil {
			return err
		}
	}
	return nil
}

func (e *earlier) MultiGet(_ context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	out := new(serverpb.MultiGetResponse)
	for _, key := range r.Keys {
		for _, p := range e.pairs {
			if bytes.Equal(p.Key, key) && len(p.Value) > 0 && string(key) != e.gone {
				out.KeyValues = append(out.KeyValues, p)
			}
		}
	}
	return out, nil
}

// TestMigrationProgram builds the program of the guide, and copies the keys of an earlier node:
// large values, an empty one, and one that goes meanwhile, which must not come back for ever.
func TestMigrationProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, source := filepath.Join(dir, "migrate"), filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(shown(t, "docs/guide/migration.md", "go")), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Dir = "../.." // the module that it imports
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
	const expires = 4_000_000_000
	large := bytes.Repeat([]byte("x"), 900<<10)
	from := &earlier{gone: "gone", pairs: []*serverpb.KVPair{
		{Key: []byte("empty")}, {Key: []byte("gone"), Value: []byte("v")}, {Key: []byte("session"), Value: []byte("v"), ExpireTS: expires},
	}}
	for i := range 20 { // together more than one answer may have
		from.pairs = append(from.pairs, &serverpb.KVPair{Key: []byte{'z', byte('a' + i)}, Value: large})
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(16 << 20)) // as nodes by default
	serverpb.RegisterDKVServer(server, from)
	go server.Serve(lis)
	t.Cleanup(server.Stop)
	n := newFixture(t, dir)
	for _, want := range []string{"22 keys copied\n", "0 keys copied\n"} {
		if out, err := exec.Command(program, lis.Addr().String(), n.grpc).CombinedOutput(); err != nil || string(out) != want {
			t.Fatalf("%v, and it prints:\n%s", err, out)
		}
	}
	to := serverpb.NewDKVClient(n.conn)
	for key, want := range map[string]struct {
		found   bool
		expires uint64
	}{"empty": {true, 0}, "gone": {false, 0}, "session": {true, expires}, "zt": {true, 0}} {
		got, err := to.Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte(key)})
		if err != nil || got.Found != want.found || got.ExpireTS != want.expires {
			t.Errorf("%s: found %v, expires at %d: %v", key, got.GetFound(), got.GetExpireTS(), err)
		}
	}
}
