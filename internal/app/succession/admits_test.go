package succession

import (
	"context"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// sealedCopy is a slave with one vBucket, which a promotion has sealed or not.
type sealedCopy struct {
	Slave
	at slave.Position
}

type silentCopy struct{ role.Replica }

func (silentCopy) Status() replica.Status { return replica.Status{} }

func (*sealedCopy) VBuckets() []role.VBucket {
	return []role.VBucket{{Name: "default", Replica: silentCopy{}}}
}

func (c *sealedCopy) Positions(context.Context) ([]slave.Position, error) {
	return []slave.Position{c.at}, nil
}

func (c *sealedCopy) Seal(_ context.Context, id string) error {
	c.at.Sealed = id
	return nil
}

// A node becomes a master as the promotion knows it: at its Raft address, and with what it had when
// it was sealed, also if an operator has ended the seal since.
func TestNodeIsAdmittedAsThePromotionKnowsIt(t *testing.T) {
	const url = "http://127.0.0.1:9002"
	f := newFolder(t, "--role", "slave", "--repl-master-addr", "127.0.0.1:1", "--nexus-node-url", url)
	disk, err := bootstrap.Reserve(f.path(), url)
	if err != nil {
		t.Fatal(err)
	}
	r := promotion.Record{ID: "p", Replica: 2, Nodes: []promotion.Node{{Replica: 2, URL: url, Disk: disk}}, Cuts: map[string]promotion.Cut{"default": {Former: "a", End: 9}}}
	for _, c := range []struct {
		name    string
		at      kv.Index
		history string
		sealed  string
		url     string
		want    string
	}{
		{"sealed", 9, "a", "p", url, ""},
		{"unsealed by hand", 9, "a", "", url, ""},
		{"unsealed, and changed since", 10, "a", "", url, "not sealed any more"},
		{"of another history", 9, "b", "", url, "not sealed any more"},
		{"sealed by another promotion", 9, "a", "q", url, "sealed by"},
		{"at another Raft address", 9, "a", "p", "http://127.0.0.1:9003", "nexus-node-url as it was"},
	} {
		f.open(func(n *node.Node) error {
			n.Config.Nexus.NodeURL = c.url
			own := &sealedCopy{at: slave.Position{VBucket: "default", Identity: fsm.Identity{History: c.history}, Applied: c.at, Sealed: c.sealed}}
			s := &Service{node: n, copies: copies{own}}
			err := s.admits(t.Context(), &r)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			if c.want == "" && own.at.Sealed != "p" {
				t.Errorf("%s: sealed by %q", c.name, own.at.Sealed)
			}
			return nil
		})
	}
}

// A slave may be part of a promotion although one of its own that was given up is not told
// everywhere, as when a master of that never answers again; not while its own is under way.
func TestGivenUpPromotionKeepsNoOtherOut(t *testing.T) {
	f := newFolder(t, "--role", "slave", "--repl-master-addr", "127.0.0.1:1", "--nexus-node-url", "http://127.0.0.1:9002")
	f.open(func(n *node.Node) error {
		n.Layout.Database = "db"
		for step, fits := range map[promotion.Step]bool{promotion.Abandoning: true, promotion.Begun: false} {
			own := &sealedCopy{at: slave.Position{VBucket: "default", Identity: fsm.Identity{History: "a"}, Applied: 9}}
			founder := promotion.NewFounder(promotion.Options{}, &promotion.Record{ID: "p", Step: step, Masters: []string{"m:1"}})
			s := &Service{node: n, copies: copies{own}, founder: founder}
			for _, id := range []string{"", "q"} {
				_, err := s.SealCopies(t.Context(), &peerpb.SealCopiesRequest{Database: "db", Promotion: id})
				if (err == nil) != fits || err != nil && !strings.Contains(err.Error(), "has a promotion of its own") {
					t.Errorf("%s, for promotion %q: %v", step, id, err)
				}
			}
			if (own.at.Sealed == "q") != fits {
				t.Errorf("%s: sealed by %q", step, own.at.Sealed)
			}
		}
		return nil
	})
}
