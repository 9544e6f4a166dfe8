package restoration_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/app/restoration"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/testkit"
)

// process is a master with two vBuckets that runs in this process.
type process struct {
	t              *testing.T
	folder, listen string
	args           []string
	log            *testkit.Log
	code           chan int
	conn           *grpc.ClientConn
}

func newProcess(t *testing.T, dir string) *process {
	p := &process{t: t, folder: filepath.Join(dir, "db"), listen: testkit.Address(t)}
	p.args = []string{
		"--db-folder", p.folder, "--listen-addr", p.listen, "--http-listen-addr", "127.0.0.1:0", "--disable-discovery-client",
		"--role", "master", "--vbuckets", "2", "--nexus-node-url", "http://" + testkit.Address(t), "--backup-dir", filepath.Join(dir, "backups"),
	}
	return p
}

// start starts the node, and returns what stops it.
func (p *process) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	log, code := new(testkit.Log), make(chan int, 1)
	p.log, p.code = log, code
	go func() { code <- app.Main(ctx, app.Process{Args: p.args, Stdout: log, Stderr: log}) }()
	var err error
	if p.conn, err = grpc.NewClient("passthrough:///"+p.listen, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		cancel()
		<-code
		p.conn.Close()
	}
}

func (p *process) put(from, to int) {
	p.t.Helper()
	c := serverpb.NewDKVClient(p.conn)
	for i := from; i < to; i++ {
		testkit.Eventually(p.t, "a write is acknowledged", func() bool {
			_, err := c.Put(p.t.Context(), &serverpb.PutRequest{Key: []byte("k" + strconv.Itoa(i)), Value: []byte("v")})
			return err == nil
		})
	}
}

// has counts the keys that are there.
func (p *process) has(upTo int) (n int) {
	p.t.Helper()
	c := serverpb.NewDKVClient(p.conn)
	for i := range upTo {
		testkit.Eventually(p.t, "a read is answered", func() bool {
			resp, err := c.Get(p.t.Context(), &serverpb.GetRequest{Key: []byte("k" + strconv.Itoa(i))})
			if err == nil && resp.GetFound() {
				n++
			}
			return err == nil
		})
	}
	return n
}

// changes returns the newest number, the cluster and the history of a vBucket.
func (p *process) changes(vBucket string) *serverpb.GetChangesResponse {
	p.t.Helper()
	resp, err := serverpb.NewDKVReplicationClient(p.conn).GetChanges(p.t.Context(), &serverpb.GetChangesRequest{VBucket: vBucket, FromChangeNumber: 1 << 62})
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

// backedUp makes a backup with forty keys, and returns its folder and what the vBuckets were.
func backedUp(t *testing.T) (string, []*serverpb.GetChangesResponse) {
	t.Helper()
	dir := t.TempDir()
	p := newProcess(t, dir)
	defer p.start()()
	p.put(0, 40)
	if _, err := serverpb.NewDKVBackupRestoreClient(p.conn).Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "one"}); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "backups", "one"), []*serverpb.GetChangesResponse{p.changes("0"), p.changes("1")}
}

// restore restores to the process's folder, up to a step.
func (p *process) restore(from, until string, end error) error {
	inv, err := config.Load(append(slices.Clone(p.args), "--restore-from", from), nil)
	if err != nil || inv.Action != config.RestoreFrom {
		p.t.Fatal(inv, err)
	}
	return restoration.RunUntil(p.t.Context(), inv.Config, inv.Restore, slog.New(slog.DiscardHandler), new(bytes.Buffer), func(step string) error {
		if step == until {
			return end
		}
		return nil
	})
}

// What was restored is another cluster, whose numbers are above all that the former one may have given.
func TestRestoredIsANewCluster(t *testing.T) {
	from, before := backedUp(t)
	p := newProcess(t, t.TempDir())
	if err := p.restore(from, "", nil); err != nil {
		t.Fatal(err)
	}
	defer p.start()()
	if n := p.has(40); n != 40 {
		t.Errorf("%d keys of 40", n)
	}
	var wholes []string
	for i, was := range before {
		now := p.changes(strconv.Itoa(i))
		if now.GetClusterId() == was.GetClusterId() || now.GetHistoryId() == was.GetHistoryId() || len(now.GetLineage()) != 0 || now.GetReplacesHistory() {
			t.Errorf("vBucket %d is of cluster %s, history %s after %v", i, now.GetClusterId(), now.GetHistoryId(), now.GetLineage())
		}
		if now.GetMasterChangeNumber() < was.GetMasterChangeNumber()+era.Gap {
			t.Errorf("vBucket %d goes on at %d after %d", i, now.GetMasterChangeNumber(), was.GetMasterChangeNumber())
		}
		wholes = append(wholes, era.WholeRestore(now.GetHistoryId()))
	}
	if wholes[0] == "" || wholes[0] != wholes[1] {
		t.Errorf("the vBuckets are not seen to be of one restore: %q", wholes)
	}
	p.put(40, 41)
}

// A start after a crash anywhere serves nothing, and the next restore completes.
func TestCrashes(t *testing.T) {
	from, _ := backedUp(t)
	for _, step := range []string{"begun", "built 0", "filled 0", "built 1", "filled 1"} {
		t.Run(step, func(t *testing.T) {
			p := newProcess(t, t.TempDir())
			if err := p.restore(from, step, restoration.ErrCrash); !errors.Is(err, restoration.ErrCrash) {
				t.Fatal(err)
			}
			stop := p.start()
			if code := <-p.code; code != 1 || !p.log.Has("was cut short, so nothing in it may be served") || !p.log.Has("dkvsrv --restore-from "+from) {
				t.Errorf("exit code %d\n%s", code, p.log)
			}
			p.code <- 0
			stop()
			if err := p.restore(from, "", nil); err != nil {
				t.Fatal(err)
			}
			defer p.start()()
			if n := p.has(40); n != 40 {
				t.Errorf("%d keys of 40", n)
			}
		})
	}
}

// After an error there is an empty folder, as before.
func TestAnErrorLeavesNothing(t *testing.T) {
	from, _ := backedUp(t)
	for _, step := range []string{"begun", "built 1", "filled 1"} {
		p := newProcess(t, t.TempDir())
		failed := errors.New("no such luck")
		if err := p.restore(from, step, failed); !errors.Is(err, failed) || !strings.Contains(err.Error(), "as empty as it was") {
			t.Fatal(err)
		}
		err := filepath.WalkDir(p.folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != "LOCK" {
				t.Errorf("%s is left", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.restore(from, "", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is written if a byte of the last vBucket is damaged, and nothing is lost of a folder that
// holds something.
func TestNothingIsChanged(t *testing.T) {
	from, _ := backedUp(t)
	for name, prepare := range map[string]func(p *process){
		"db-folder":     func(p *process) { p.write(filepath.Join(p.folder, "notes")) },
		"a vBucket":     func(p *process) { p.write(filepath.Join(p.folder, "vbucket-1", "gen-000001", "CURRENT")) },
		"nexus-log-dir": func(p *process) { p.write(filepath.Join(p.folder, "nexus", "log", "NODEHOST.ID")) },
	} {
		p := newProcess(t, t.TempDir())
		prepare(p)
		was := p.files()
		if err := p.restore(from, "", nil); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", name, err)
		}
		if now := p.files(); !slices.Equal(was, now) {
			t.Errorf("%s: %q, were %q", name, now, was)
		}
	}
	damaged := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(damaged, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "1", "data", "CURRENT"), []byte("MANIFEST-999999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, t.TempDir())
	if err := p.restore(damaged, "", nil); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Error(err)
	}
	if _, err := os.Stat(p.folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}

func (p *process) write(path string) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

// files are those of the folder but its lock.
func (p *process) files() (out []string) {
	_ = filepath.WalkDir(p.folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "LOCK" {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// The folders of two backups have keys of two times.
func TestMixedBackupsAreRejected(t *testing.T) {
	from, _ := backedUp(t)
	other, _ := backedUp(t)
	mixed := t.TempDir()
	for part, of := range map[string]string{"0": from, "1": other} {
		if err := os.CopyFS(filepath.Join(mixed, part), os.DirFS(filepath.Join(of, part))); err != nil {
			t.Fatal(err)
		}
	}
	p := newProcess(t, t.TempDir())
	if err := p.restore(mixed, "", nil); err == nil || !strings.Contains(err.Error(), "is mixed from several backups") {
		t.Error(err)
	}
}
