package app

import (
	"errors"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// putAt returns what puts a key at a node.
func putAt(t *testing.T, p *process) func() error {
	client := serverpb.NewDKVClient(connect(t, p.grpc()))
	return func() error {
		_, err := client.Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
		return err
	}
}

// away moves the folder of a node, and back returns it.
func away(t *testing.T, p *process) (back func()) {
	t.Helper()
	if err := os.Rename(p.folder, p.folder+".away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		// A master may have made another one, for what it knows of the others.
		if err := errors.Join(os.RemoveAll(p.folder), os.Rename(p.folder+".away", p.folder)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFolderThatWasMovedAway: a node acknowledges nothing that the next start would not find, and says
// so. Once the folder is back it goes on.
func TestFolderThatWasMovedAway(t *testing.T) {
	p := start(t)
	put := putAt(t, p)
	testkit.Eventually(t, "it accepts writes", func() bool { return put() == nil })
	back := away(t, p)
	testkit.Eventually(t, "writes are rejected", func() bool {
		err := put()
		return status.Code(err) == codes.FailedPrecondition && strings.Contains(err.Error(), "moved or removed")
	})
	if h := healthOf(t, p.ops); h.Status != "degraded" || !strings.Contains(strings.Join(h.Reasons, "; "), "moved or removed") {
		t.Errorf("%v, %v", h.Status, h.Reasons)
	}
	back()
	testkit.Eventually(t, "it accepts writes again", func() bool { return put() == nil })
	if code := p.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// TestMasterWhoseFolderWasMovedAway: it leaves its log to the other members, since it would forget what
// it promises them, and takes part again when it is started with its folder.
func TestMasterWhoseFolderWasMovedAway(t *testing.T) {
	nodes := mastersWith(t, 3, "--disable-discovery-client")
	leader, others := lead(t, nodes)
	put := putAt(t, others[0])
	testkit.Eventually(t, "it accepts writes", func() bool { return put() == nil })
	back := away(t, leader)
	testkit.Eventually(t, "it leads no more", func() bool {
		h := healthOf(t, leader.ops)
		return h.Status == "unhealthy" && !h.VBuckets[0].IsLeader && strings.Contains(strings.Join(h.Reasons, "; "), "moved or removed")
	})
	testkit.Eventually(t, "the others accept writes", func() bool { return put() == nil })
	leader.stop()
	back()
	leader.begin()
	leader.http()
	testkit.Eventually(t, "it takes part again", func() bool { return healthOf(t, leader.ops).Status == "healthy" })
}
