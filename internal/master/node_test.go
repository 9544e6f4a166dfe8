package master

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

func TestPauseAndResume(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	ctx := t.Context()
	for range 2 { // pausing twice is no error
		if s, err := r.Ops.PauseWrites(ctx, &emptypb.Empty{}); err != nil || s.GetCode() != 0 {
			t.Fatalf("%v, %v", s, err)
		}
	}
	const want = "writes are paused; dkvctl -resumeWrites ends the pause (not applied)"
	key := []byte("k")
	for _, err := range []error{
		second(r.Put(ctx, &serverpb.PutRequest{Key: key})),
		second(r.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{{Key: key}}})),
		second(r.Delete(ctx, &serverpb.DeleteRequest{Key: key})),
		second(r.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: key})),
		second(r.Increment(ctx, &serverpb.IncrementRequest{Key: key})),
	} {
		mastertest.WantStatus(t, err, codes.FailedPrecondition, want)
	}
	r.WantValue("k", "v")
	status, err := r.Ops.GetNodeStatus(ctx, &emptypb.Empty{})
	if err != nil || !status.GetVBuckets()[0].GetWritesPaused() || status.GetVBuckets()[0].GetReason() == "" {
		t.Errorf("%v, %v", status, err)
	}
	if _, err := r.Ops.ResumeWrites(ctx, &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	r.MustPut("k", "w")
	r.WantValue("k", "w")
}

func TestContentHash(t *testing.T) {
	a, b := newRig(t), newRig(t)
	hash := func(r *rig) *serverpb.ContentHashResponse {
		t.Helper()
		resp, err := r.Ops.GetContentHash(t.Context(), &serverpb.ContentHashRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, r := range []*rig{a, b} {
		r.MustPut("k", "v")
		r.MustPut("k2", "v", mastertest.Epoch+10)
	}
	ha, hb := hash(a), hash(b)
	if !bytes.Equal(ha.GetHash(), hb.GetHash()) || len(ha.GetHash()) != 32 || ha.GetIndex() != 2 || ha.GetKeys() != 2 {
		t.Errorf("%v, %v", ha, hb)
	}
	if ha.GetHistoryId() != a.Local.Status().Identity.History || ha.GetHistoryId() == hb.GetHistoryId() {
		t.Errorf("histories %s, %s", ha.GetHistoryId(), hb.GetHistoryId())
	}
	b.MustPut("k2", "v", mastertest.Epoch+11) // only the expiry differs
	if bytes.Equal(hash(b).GetHash(), ha.GetHash()) {
		t.Error("an expiry does not count")
	}
	_, err := a.Ops.GetContentHash(t.Context(), &serverpb.ContentHashRequest{VBucket: "x"})
	mastertest.WantStatus(t, err, codes.NotFound, `this node has no vBucket "x"; it has [default]`)
}

func TestGetNodeStatus(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	s, err := r.Ops.GetNodeStatus(t.Context(), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if s.GetNodeId() != "n1" || s.GetNodeName() != "node-1" || s.GetVersion() != "v1.2.3" || s.GetRole() != "none" ||
		s.GetEngine() != "memory" || s.GetDatabase() != "db" || s.GetAddress() != "10.0.0.1:8080" ||
		s.GetHttpAddress() != "10.0.0.1:8081" || len(s.GetVBuckets()) != 1 {
		t.Fatalf("%v", s)
	}
	v := s.GetVBuckets()[0]
	if v.GetVBucket() != "default" || v.GetMode() != "local" || v.GetState() != "serving" || !v.GetIsLeader() ||
		v.GetLeader() != "10.0.0.1:8080" || v.GetCommitIndex() != 1 || v.GetAppliedIndex() != 1 || v.GetWritesPaused() ||
		v.GetReason() != "" || v.GetFirstChangeNumber() != 1 || v.GetHistoryId() != r.Local.Status().Identity.History {
		t.Errorf("%v", v)
	}
}

func TestMembership(t *testing.T) {
	r := newRig(t)
	nodes, err := r.Cluster.ListNodes(t.Context(), &emptypb.Empty{})
	if err != nil || nodes.GetLeader() != 1 || len(nodes.GetNodes()) != 1 {
		t.Fatalf("%v, %v", nodes, err)
	}
	if n := nodes.GetNodes()[1]; n.GetNodeUrl() != "http://10.0.0.1:8080" || n.GetNodeId() != 1 || n.GetStatus() != modelspb.NodeInfo_LEADER {
		t.Errorf("%v", n)
	}
	for _, err := range changesOf(t.Context(), r.Cluster) {
		mastertest.WantStatus(t, err, codes.FailedPrecondition, "this node is standalone and has no cluster to change; start masters with --role master (not applied)")
	}
}

// changesOf are the errors of all changes of a cluster.
func changesOf(ctx context.Context, c serverpb.DKVClusterClient) []error {
	const url = "http://127.0.0.1:9021"
	return []error{
		second(c.AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: url})),
		second(c.RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: url})),
		second(c.TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: url})),
		second(c.StepDown(ctx, &emptypb.Empty{})),
		second(c.Snapshot(ctx, &emptypb.Empty{})),
	}
}

// followed is a copy that knows, or does not know, who leads.
type followed struct {
	replica.Replica
	leader string
}

func (f followed) Owner() replica.Owner { return replica.Owner{Address: f.leader} }

// A slave sends to its leader, and does not speak of itself as standalone.
func TestSlaveChangesNoCluster(t *testing.T) {
	for leader, want := range map[string]string{
		"":              "this node is a slave and changes no cluster; ask a master (not applied)",
		"10.0.0.7:8080": "this node is a slave and changes no cluster; ask the leader at 10.0.0.7:8080 (not applied)",
	} {
		node := NewNode(route.NewKeyspace(route.VBucket{Name: "v", Replica: followed{leader: leader}}), info, route.NewForCopies(nil, true))
		s := servertest.Start(t, servertest.Options{Register: func(s grpc.ServiceRegistrar) { serverpb.RegisterDKVClusterServer(s, node) }})
		c := serverpb.NewDKVClusterClient(servertest.Connect(t, s.Addr))
		for _, err := range changesOf(t.Context(), c) {
			mastertest.WantStatus(t, err, codes.FailedPrecondition, want)
		}
		nodes, err := c.ListNodes(t.Context(), &emptypb.Empty{})
		if n := nodes.GetNodes()[1]; err != nil || nodes.GetLeader() != 0 || n.GetStatus() != modelspb.NodeInfo_SLAVE || !n.GetNonVoting() || n.GetAddress() != info.Address {
			t.Errorf("it lists %v, %v", nodes, err)
		}
	}
}

// slowView is a replica whose views take until a gate is opened.
type slowView struct {
	replica.Replica
	begun chan struct{}
	gate  chan struct{}
}

func (s slowView) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	s.begun <- struct{}{}
	<-s.gate
	return s.Replica.View(ctx, opts)
}

// Content hashes read everything: one is made at a time, and few may wait.
func TestContentHashesAreBounded(t *testing.T) {
	r := newRig(t)
	slow := slowView{r.Local, make(chan struct{}, 100), make(chan struct{})}
	r.Keyspace.All()[0].Replica = slow
	errs := make(chan error, 100)
	for range 3 * maxHashes {
		go func() { errs <- second(r.Ops.GetContentHash(r.T.Context(), &serverpb.ContentHashRequest{})) }()
	}
	<-slow.begun
	for range 2 * maxHashes {
		mastertest.WantStatus(t, <-errs, codes.ResourceExhausted, "8 content hashes are asked for already, which is the limit; retry when they are done")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.Ops.GetContentHash(ctx, &serverpb.ContentHashRequest{}); err == nil {
		t.Error("one more was made")
	}
	if n := len(slow.begun); n != 0 {
		t.Errorf("%d are made beside the first", n)
	}
	close(slow.gate)
	for range maxHashes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestBackupAndRestore(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	for _, path := range []string{"b1", "daily/b1", filepath.Join(r.Root, "b2")} {
		r.MustPut("a", "1")
		r.MustBackup(path)
		r.MustPut("a", "2")
		r.MustPut("b", "2")
		r.MustRestore(path)
		r.WantValue("a", "1")
		r.WantAbsent("b")
	}
	_, err := r.Backups.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: "b1"})
	mastertest.WantStatus(t, err, codes.FailedPrecondition, "backup "+filepath.Join(r.Root, "b1")+" exists already; choose another path (not applied)")
}

// TestBackupsAreConfined tries to reach what is not in backup-dir.
func TestBackupsAreConfined(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustBackup("b1")
	outside := filepath.Join(filepath.Dir(r.Root), "outside")
	if err := os.Rename(filepath.Join(r.Root, "b1"), outside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(r.Root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", ".", "..", "../outside", outside, "/", "link", "link/x", r.Root} {
		want := `path "` + path + `" is not inside backup-dir (` + r.Root + `); give a path relative to it (not applied)`
		_, err := r.Backups.Backup(t.Context(), &serverpb.BackupRequest{BackupPath: path})
		mastertest.WantStatus(t, err, codes.InvalidArgument, want)
		_, err = r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: path})
		mastertest.WantStatus(t, err, codes.InvalidArgument, want)
	}
	r.WantValue("a", "1")
}

func TestFailedRestore(t *testing.T) {
	r := newRig(t)
	r.MustPut("a", "1")
	r.MustBackup("b1")
	r.MustPut("a", "2")
	_, err := r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: "b2"})
	mastertest.WantStatus(t, err, codes.NotFound,
		"restore: there is no backup at "+filepath.Join(r.Root, "b2")+" (no MANIFEST.json); nothing was changed (not applied)")
	file := filepath.Join(r.Root, "b1", "data", "checkpoint.mem")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.Backups.Restore(t.Context(), &serverpb.RestoreRequest{RestorePath: "b1"})
	mastertest.WantStatus(t, err, codes.DataLoss, "restore: backup "+filepath.Join(r.Root, "b1")+
		": stored data is corrupt: checkpoint.mem fails its checksum; nothing was changed (not applied)")
	r.WantValue("a", "2")
	r.MustPut("a", "3")
}

func TestUnservedMethods(t *testing.T) {
	r := newRig(t)
	_, err := serverpb.NewDKVDiscoveryClient(r.Conn).UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{})
	mastertest.WantStatus(t, err, codes.Unimplemented, "unknown service dkv.serverpb.DKVDiscovery")
}

func TestAudited(t *testing.T) {
	for method, want := range map[string]bool{
		"/dkv.serverpb.DKV/Put":                  false,
		"/dkv.serverpb.DKV/Get":                  false,
		"/dkv.serverpb.DKVCluster/ListNodes":     false,
		"/dkv.serverpb.DKVNode/GetNodeStatus":    false,
		"/dkv.serverpb.DKVBackupRestore/Backup":  true,
		"/dkv.serverpb.DKVBackupRestore/Restore": true,
		"/dkv.serverpb.DKVCluster/AddNode":       true,
		"/dkv.serverpb.DKVCluster/RemoveNode":    true,
		"/dkv.serverpb.DKVNode/GetContentHash":   true, // it reads everything
		"/dkv.serverpb.DKVNode/PauseWrites":      true,
		"/dkv.serverpb.DKVNode/SetClock":         true,
		"/dkv.serverpb.DKVNode/ResumeWrites":     true,
	} {
		if got := Audited(method); got != want {
			t.Errorf("%s: %v", method, got)
		}
	}
}

// TestKeyspace cuts a keyspace into parts. The vBucket of a key is the one that
// clients compute: (xxhash64(key) & 0xFFFF) mod N.
func TestKeyspace(t *testing.T) {
	rigs := []*rig{newRig(t), newRig(t), newRig(t), newRig(t)}
	var vs []route.VBucket
	for i, r := range rigs {
		vs = append(vs, route.VBucket{Name: string(rune('a' + i)), Replica: r.Local})
	}
	k := route.NewKeyspace(vs...)
	// xxhash64 of "" is 0xef46db3751d8e999, of "a" 0xd24ec4f1a98c6e5b, of "abc"
	// 0x44bc2cf5ad770999: published test vectors.
	for key, want := range map[string]string{"": "b", "a": "d", "abc": "b"} {
		if got := k.Of([]byte(key)).Name; got != want {
			t.Errorf("%q is in %s, want %s", key, got, want)
		}
	}
	if v, err := k.Named("c"); err != nil || v.Name != "c" || len(k.All()) != 4 {
		t.Errorf("%v, %v", v.Name, err)
	}
	if _, err := k.Only(); kv.KindOf(err) != kv.Invalid || err.Error() != "this node has 4 vBuckets; say which one" {
		t.Errorf("%v", err)
	}
	if _, err := k.Named("x"); kv.KindOf(err) != kv.NotFound || err.Error() != `this node has no vBucket "x"; it has [a b c d]` {
		t.Errorf("%v", err)
	}
	// A multi-put is atomic within one vBucket only.
	s := NewKV(k, limits, nil)
	put := func(keys ...string) error {
		req := &serverpb.MultiPutRequest{}
		for _, key := range keys {
			req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: []byte(key), Value: []byte("v")})
		}
		_, err := s.MultiPut(context.Background(), req)
		return err
	}
	const want = `keys "a" and "abc" are in different vBuckets, d and b; a multi-put is atomic within one only; split it, or set maySplit (dkvctl: -split), which gives atomicity up between vBuckets`
	if err := put("a", "abc"); kv.KindOf(err) != kv.Invalid || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := put("abc", "abc"); err != nil {
		t.Error(err)
	}
	rigs[1].WantValue("abc", "v")
	rigs[3].WantAbsent("abc")

	// It may be split where the caller says so.
	resp, err := s.MultiPut(context.Background(), &serverpb.MultiPutRequest{MaySplit: true, PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("abc"), Value: []byte("2")},
	}})
	if err != nil || resp.GetIndex() != 0 {
		t.Errorf("index %d, %v", resp.GetIndex(), err)
	}
	rigs[3].WantValue("a", "1")
	rigs[1].WantValue("abc", "2")
	// What one vBucket refuses the others may have written.
	if _, err := rigs[1].Local.Propose(context.Background(), &command.Command{Kind: command.SetPaused, Flag: true}); err != nil {
		t.Fatal(err)
	}
	_, err = s.MultiPut(context.Background(), &serverpb.MultiPutRequest{MaySplit: true, PutRequest: []*serverpb.PutRequest{
		{Key: []byte("a"), Value: []byte("3")}, {Key: []byte("abc"), Value: []byte("4")},
	}})
	if kv.OutcomeOf(err) != kv.Unknown || !strings.Contains(err.Error(), "1 of 2 vBuckets are written") {
		t.Errorf("%v", err)
	}
	rigs[3].WantValue("a", "3")
	rigs[1].WantValue("abc", "2")
}
