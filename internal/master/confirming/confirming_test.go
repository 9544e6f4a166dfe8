package confirming

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listing is a log that lists one disk at level sync.
type listing struct {
	record []byte
	owner  replica.Owner
}

func (s *listing) Standbys() ([]byte, kv.Index)            { return s.record, 1 }
func (s *listing) Tenure() uint64                          { return 0 }
func (s *listing) LastEffect() kv.Index                    { return 10 }
func (s *listing) State() replica.State                    { return replica.Serving }
func (s *listing) Shown(context.Context) (kv.Index, error) { return s.LastEffect(), nil }
func (s *listing) History() string                         { return "h" }
func (s *listing) Owner() replica.Owner                    { return s.owner }

// node is a node that owns vBucket a, while another one owns b.
type node struct {
	peerpb.UnimplementedStandbyServer
	a, b    *confirm.Log
	service *Service
	client  peerpb.StandbyClient
}

func (n *node) Confirm(stream Stream) error { return n.service.Confirm(stream) }

func newNode(t *testing.T) *node {
	t.Helper()
	set := standby.Set{Level: kv.AckSync, Nodes: []standby.Node{{Disk: "d", Address: "slave:1", Phase: standby.Standing}}}
	changed := new(signal.Signal)
	n := &node{a: confirm.New(confirm.Options{VBucket: "a", Changed: changed}), b: confirm.New(confirm.Options{VBucket: "b", Changed: changed})}
	n.a.Bind(&listing{record: set.Record(), owner: replica.Owner{Self: true}})
	n.b.Bind(&listing{record: set.Record(), owner: replica.Owner{Address: "other:1"}})
	n.service = New([]*confirm.Log{n.a, n.b}, changed)
	s := servertest.Start(t, servertest.Options{Register: func(r grpc.ServiceRegistrar) { peerpb.RegisterStandbyServer(r, n) }})
	conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.client = peerpb.NewStandbyClient(conn)
	return n
}

func (n *node) open(t *testing.T, ctx context.Context, first *peerpb.Confirmation) peerpb.Standby_ConfirmClient {
	t.Helper()
	stream, err := n.client.Confirm(ctx)
	if err == nil {
		err = stream.Send(first)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestSlavesConfirmAndAreTold: what a slave says is kept by log, and it is told once what the
// owner wants, or who the owner is.
func TestSlavesConfirmAndAreTold(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(testkit.Within(t, testkit.Patience))
	defer cancel()
	first := &peerpb.Confirmation{Disk: "d", Start: 7, Address: "slave:1", Dc: "west", Durable: true, VBucket: "a", History: "h", Received: 5, Applied: 4, Synced: 3}
	stream := n.open(t, ctx, first)
	told, err := stream.Recv()
	if err != nil || told.GetVBucket() != "a" || !told.GetListed() || !told.GetSync() || told.GetOwner() != "" {
		t.Fatalf("%v, %v", told, err)
	}
	if err := stream.Send(&peerpb.Confirmation{VBucket: "b", History: "h", Received: 6}); err != nil {
		t.Fatal(err)
	}
	told, err = stream.Recv()
	if err != nil || told.GetVBucket() != "b" || told.GetSync() || told.GetOwner() != "other:1" {
		t.Fatalf("%v, %v", told, err)
	}
	want := confirm.Slave{Disk: "d", Start: 7, Address: "slave:1", DC: "west", Durable: true}
	slots := n.a.Slots()
	if len(slots) != 1 || slots[0].Slave != want || slots[0].Lag != 5 || slots[0].SyncLag != 7 || !slots[0].Connected {
		t.Errorf("%+v", slots)
	}
	if _, err := n.a.Await(ctx, 3, kv.AckDefault); err != nil {
		t.Error(err)
	}
	cancel()
	testkit.Eventually(t, "the link is known to be lost", func() bool { return !n.a.Slots()[0].Connected })
}

// TestStreamsThatAreRejected: without an introduction, and about a vBucket that is not here.
func TestStreamsThatAreRejected(t *testing.T) {
	n := newNode(t)
	ctx := testkit.Within(t, testkit.Patience)
	for _, c := range []struct {
		first *peerpb.Confirmation
		code  codes.Code
	}{
		{&peerpb.Confirmation{VBucket: "a"}, codes.InvalidArgument},
		{&peerpb.Confirmation{Disk: "d", Address: "x:1", VBucket: "a"}, codes.InvalidArgument},
		{&peerpb.Confirmation{Disk: "d", Start: 1, VBucket: "a"}, codes.InvalidArgument},
		{&peerpb.Confirmation{Disk: "d", Start: 1, Address: "x:1", VBucket: "c"}, codes.NotFound},
	} {
		if _, err := n.open(t, ctx, c.first).Recv(); status.Code(err) != c.code {
			t.Errorf("%v: %v, want %v", c.first, err, c.code)
		}
	}
}

// TestSlavesLeave: a slave that has no more to say, or nothing at all, is no fault of the node.
func TestSlavesLeave(t *testing.T) {
	n := newNode(t)
	ctx := testkit.Within(t, testkit.Patience)
	silent, err := n.client.Confirm(ctx)
	if err != nil {
		t.Fatal(err)
	}
	left := n.open(t, ctx, &peerpb.Confirmation{Disk: "d", Start: 1, Address: "x:1", VBucket: "a", History: "h"})
	if _, err := left.Recv(); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []peerpb.Standby_ConfirmClient{silent, left} {
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	}
}

// TestALaterStreamReplacesTheFormer of the same disk, which is told so.
func TestALaterStreamReplacesTheFormer(t *testing.T) {
	n := newNode(t)
	ctx := testkit.Within(t, testkit.Patience)
	introduce := func(start uint64) *peerpb.Confirmation {
		return &peerpb.Confirmation{Disk: "d", Start: start, Address: "slave:1", Durable: true, VBucket: "a", History: "h", Synced: 2}
	}
	former := n.open(t, ctx, introduce(1))
	if _, err := former.Recv(); err != nil {
		t.Fatal(err)
	}
	later := n.open(t, ctx, introduce(2))
	if _, err := later.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := former.Send(introduce(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := former.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	n.service.Close()
	if _, err := later.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a node that stops: %v", err)
	}
}

// TestASlaveWithTheIDOfAnotherOnesDisk is told so by a code of its own.
func TestASlaveWithTheIDOfAnotherOnesDisk(t *testing.T) {
	n := newNode(t)
	ctx := testkit.Within(t, testkit.Patience)
	first := n.open(t, ctx, &peerpb.Confirmation{Disk: "d", Start: 1, Address: "slave:1", Durable: true, VBucket: "a", History: "h"})
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	second := n.open(t, ctx, &peerpb.Confirmation{Disk: "d", Start: 2, Address: "copy:1", Durable: true, VBucket: "a", History: "h"})
	if told, err := second.Recv(); status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), "slave:1") {
		t.Errorf("it is told %v, %v", told, err)
	}
}
