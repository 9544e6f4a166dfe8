package slave

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// A copy that knows no change, since a snapshot has brought it or since its changes are older than it
// retains, does not go on in a log that has lost its end and has other changes under the same
// numbers; it does in its own.
func TestCopyWithoutChangesNoticesAnotherLog(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, m *node, s *copy){
		"fresh": func(*testing.T, *node, *copy) {},
		"fresh, and then entries without a change": func(t *testing.T, m *node, s *copy) {
			for _, c := range []*command.Command{setSlave("z", "h:1"), setSlave("z", "h:2"), {Kind: command.Tick}} {
				if _, err := m.Propose(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			s.has(m)
		},
		"too old": func(t *testing.T, m *node, s *copy) {
			m.put("k", "3")
			s.has(m)
			time.Sleep(2 * time.Minute)
			if _, err := m.Propose(t.Context(), &command.Command{Kind: command.Tick}); err != nil {
				t.Fatal(err)
			}
			s.has(m)
			time.Sleep(2 * time.Minute)
			if c, known, err := s.LastChange(t.Context()); known || err != nil {
				t.Fatalf("change %d is retained, %v", c.Index, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
				r := newRig(t)
				m := r.master("m1:1")
				m.put("k", "1")
				old := r.twin("old:1", m)
				for range 4 {
					m.put("k", "2")
				}
				s := r.slave(source.Fixed("m1:1"), mode, func(_ *Options, f *follower.Options) { f.Retention = changelog.Retention{MaxAge: time.Minute} })
				s.has(m)
				before(t, m, s)
				_, at := s.Position()
				s.stop()
				s.restart()
				time.Sleep(time.Minute)
				if err := s.Healthy(); err != nil {
					t.Error("its own log is none that it can follow:", err)
				}
				s.stop()
				m.kill()
				r.twin("m1:1", old).goOn(at + 3)
				s.restart()
				time.Sleep(time.Minute)
				s.keeps(m, "m1:1", "has other changes under the same numbers")
			})
		})
	}
}

// goOn has a twin make other changes up to an index.
func (n *node) goOn(upTo kv.Index) { n.goBack(n, upTo) }
