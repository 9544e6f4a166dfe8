package recovery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/app/recovery"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/testkit"
)

// process is a node that runs in this process.
type process struct {
	t           *testing.T
	name        string
	args        []string
	folder      string
	listen, url string
	log         *testkit.Log
	cancel      context.CancelFunc
	code        chan int
}

func newProcess(t *testing.T, name string, args ...string) *process {
	p := &process{t: t, name: name, folder: filepath.Join(t.TempDir(), "db"), listen: testkit.Address(t), url: "http://" + testkit.Address(t)}
	p.args = append([]string{"--listen-addr", p.listen, "--http-listen-addr", "127.0.0.1:0", "--node-name", name, "--disable-discovery-client"}, args...)
	t.Cleanup(func() {
		p.stop()
		if t.Failed() && p.log != nil {
			t.Logf("%s:\n%s", name, p.log)
		}
	})
	return p
}

// typed are the options of the node.
func (p *process) typed() []string { return append([]string{"--db-folder", p.folder}, p.args...) }

func (p *process) start() *process {
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(context.Background())
	log, code := new(testkit.Log), make(chan int, 1)
	p.log, p.code = log, code
	go func() { code <- app.Main(ctx, app.Process{Args: p.typed(), Stdout: log, Stderr: log}) }()
	return p
}

// stop stops the node, if it runs.
func (p *process) stop() {
	if p.cancel != nil {
		p.cancel()
		<-p.code
		p.cancel = nil
	}
}

// ends waits until the node ends by itself, and returns its exit code.
func (p *process) ends() int {
	select {
	case code := <-p.code:
		p.cancel()
		p.cancel = nil
		return code
	case <-time.After(testkit.Patience):
		p.t.Fatalf("%s does not end", p.name)
		return 0
	}
}

func (p *process) logs(what string) {
	p.t.Helper()
	testkit.Eventually(p.t, p.name+" logs "+what, func() bool { return p.log.Has(what) })
}

func (p *process) client() serverpb.DKVClient {
	conn, err := grpc.NewClient("passthrough:///"+p.listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return serverpb.NewDKVClient(conn)
}

// put writes keys, each until it is acknowledged.
func (p *process) put(keys ...string) {
	p.t.Helper()
	c := p.client()
	for _, key := range keys {
		testkit.Eventually(p.t, "a write of "+key+" is acknowledged", func() bool {
			ctx, end := context.WithTimeout(p.t.Context(), 2*time.Second)
			defer end()
			_, err := c.Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte("of " + key)})
			return err == nil
		})
	}
}

// propose writes a key that no majority gets.
func (p *process) propose(key string) {
	ctx, end := context.WithTimeout(p.t.Context(), 300*time.Millisecond)
	defer end()
	if _, err := p.client().Put(ctx, &serverpb.PutRequest{Key: []byte(key), Value: []byte("of " + key)}); err == nil {
		p.t.Errorf("%s was acknowledged by a minority", key)
	}
}

// has reports whether a key is there.
func (p *process) has(key string, level serverpb.ReadConsistency) (found bool, err error) {
	ctx, end := context.WithTimeout(p.t.Context(), 2*time.Second)
	defer end()
	resp, err := p.client().Get(ctx, &serverpb.GetRequest{Key: []byte(key), ReadConsistency: level})
	if err == nil && resp.GetFound() && string(resp.GetValue()) != "of "+key {
		p.t.Errorf("%s is %q", key, resp.GetValue())
	}
	return resp.GetFound(), err
}

// serves waits until the node has just these keys of several.
func (p *process) serves(level serverpb.ReadConsistency, want map[string]bool) {
	p.t.Helper()
	for key, there := range want {
		var found bool
		var err error
		if !testkit.Soon(func() bool { found, err = p.has(key, level); return err == nil && found == there }) {
			p.t.Fatalf("%s: %s is there: %v, %v; want %v", p.name, key, found, err, there)
		}
	}
}

// masters starts a cluster.
func masters(t *testing.T, args ...string) []*process {
	var urls []string
	out := make([]*process, 3)
	for i := range out {
		out[i] = newProcess(t, fmt.Sprint("n", i+1), append([]string{"--role", "master"}, args...)...)
		urls = append(urls, out[i].url)
	}
	for _, p := range out {
		p.args = append(p.args, "--nexus-node-url", p.url, "--nexus-cluster-url", strings.Join(urls, ","))
		p.start()
	}
	for _, p := range out {
		p.logs("msg=serving")
	}
	return out
}

// slaveOf is a slave that is not started.
func slaveOf(t *testing.T, nodes []*process) *process {
	var at []string
	for _, p := range nodes {
		at = append(at, p.listen)
	}
	return newProcess(t, "slave", "--role", "slave", "--repl-mode", "stream", "--repl-master-addr", strings.Join(at, ","))
}

// leader is the node that acknowledges a linearizable read by itself, and the others.
func leader(t *testing.T, nodes []*process) (owner *process, others []*process) {
	t.Helper()
	testkit.Eventually(t, "a node leads", func() bool {
		owner, others = nil, nil
		for _, p := range nodes {
			if leads(t, p) {
				owner = p
			} else {
				others = append(others, p)
			}
		}
		return owner != nil && len(others) == len(nodes)-1
	})
	return owner, others
}

// leads asks a node for its status.
func leads(t *testing.T, p *process) bool {
	conn, err := grpc.NewClient("passthrough:///"+p.listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, end := context.WithTimeout(t.Context(), time.Second)
	defer end()
	resp, err := serverpb.NewDKVNodeClient(conn).GetNodeStatus(ctx, new(emptypb.Empty))
	if err != nil {
		return false
	}
	for _, v := range resp.GetVBuckets() {
		if !v.GetIsLeader() {
			return false
		}
	}
	return len(resp.GetVBuckets()) > 0
}

var silent = slog.New(slog.DiscardHandler)

// recoverUntil runs dkvsrv recover with a node's options, until a step; an empty one is never reached.
func (p *process) recoverUntil(token, step string) (string, error) {
	p.t.Helper()
	inv, err := config.Load(append([]string{"recover"}, p.typed()...), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	var out bytes.Buffer
	err = recovery.RunUntil(inv.Config, token, inv.Typed(), silent, &out, func(at string) error {
		if at == step {
			return errCrash
		}
		return nil
	})
	return out.String(), err
}

var errCrash = errors.New("it crashes here")

var tokenIn = regexp.MustCompile(`dkvsrv recover --confirm ([0-9a-f]{16}) --db-folder `)

// listed returns what the first call lists, and its token.
func (p *process) listed() (text, token string) {
	p.t.Helper()
	text, err := p.recoverUntil("", "")
	m := tokenIn.FindStringSubmatch(text)
	if err != nil || m == nil {
		p.t.Fatalf("%s, %v", text, err)
	}
	return text, m[1]
}

// copied is a node with a copy of the folder.
func (p *process) copied() *process {
	q := *p
	q.folder = filepath.Join(p.t.TempDir(), "db")
	if err := os.CopyFS(q.folder, os.DirFS(p.folder)); err != nil {
		p.t.Fatal(err)
	}
	return &q
}

// files are the contents of all files in a folder but those of the engines, which replay their own
// logs when they are opened, as at a start.
func files(t *testing.T, folder string) map[string]string {
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), "gen-"):
			return fs.SkipDir
		case e.IsDir():
			out[path] = "a folder"
			return nil
		}
		raw, err := os.ReadFile(filepath.Join(folder, path))
		out[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
