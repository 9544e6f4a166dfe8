package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// fixture is a node that a Go test starts, kills and starts again on one folder.
type fixture struct {
	t    *testing.T
	dir  string
	args []string
	*node
	conn *grpc.ClientConn
}

// newFixture starts a node on a folder below dir.
func newFixture(t *testing.T, dir string, args ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: dir, args: append([]string{
		"--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0",
		"--db-folder", filepath.Join(dir, "db"),
	}, args...)}
	f.start()
	t.Cleanup(f.end)
	return f
}

// end kills the node, and shows its log if the test has failed.
func (f *fixture) end() {
	f.kill()
	if f.t.Failed() {
		log, _ := os.ReadFile(f.logPath())
		f.t.Logf("the node's log:\n%s", log)
	}
}

func (f *fixture) logPath() string { return filepath.Join(f.dir, "dkvsrv.log") }

func (f *fixture) start() { f.startAs("dkvsrv") }

// startAs runs a program that is, or becomes, dkvsrv.
func (f *fixture) startAs(program string) {
	f.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.node, err = start(path, f.logPath(), f.dir, process.Environ(), f.args); err != nil {
		f.t.Fatal(err)
	}
	f.conn, err = grpc.NewClient("passthrough:///"+f.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) kill() {
	f.node.Kill()
	_ = f.conn.Close()
}

func (f *fixture) client() serverpb.DKVClient { return serverpb.NewDKVClient(f.conn) }
