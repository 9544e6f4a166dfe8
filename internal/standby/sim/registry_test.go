package sim

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/kv"
)

// registry is one log of some nodes, of which one owns it at a time, and the real Book on
// each of them.
type registry struct {
	*world
	nodes  []*node
	owner  int
	epoch  int
	values map[string][]byte
}

type procKey struct{}

// office is the process of one node of the registry.
type office struct {
	*registry
	node *node
	book *record.Book
	busy bool
	// back makes the clock's next reading an old one.
	back bool
	// stale is what this node knew when it last owned the log.
	stale map[string][]byte
}

func newRegistry(w *world) *registry {
	r := &registry{world: w, values: make(map[string][]byte)}
	for _, name := range []string{"r1", "r2", "r3"} {
		n := w.add(name)
		n.boot = func() {}
		n.begin()
		r.nodes = append(r.nodes, n)
	}
	return r
}

func (r *registry) elect() {
	r.owner = r.rng.IntN(len(r.nodes))
	r.epoch++
	r.reached.RegistryOwners++
}

// Now implements the Book's clock.
func (o *office) Now() time.Duration {
	if o.back {
		o.back = false
		return o.node.clock() - time.Minute
	}
	return o.node.clock()
}

var errNotOwner = kv.Errorf(kv.NotOwner, "not the owner")

func (o *office) owns() bool { return o.nodes[o.owner] == o.node }

// Read implements record.Log. It is linearizable: package lease has its own simulation.
func (o *office) Read(ctx context.Context, key []byte) ([]byte, error) {
	p := ctx.Value(procKey{}).(*proc)
	p.step()
	if o.rules.has(registryReadsItsCopy) {
		if o.owns() {
			o.stale = map[string][]byte{string(key): o.values[string(key)]}
		}
		return o.stale[string(key)], nil
	}
	if !o.owns() {
		return nil, errNotOwner
	}
	v := o.values[string(key)]
	p.step()
	return v, nil
}

// Swap implements record.Log: what was proposed in an epoch has an effect in it only, and
// perhaps after the proposer has given up.
func (o *office) Swap(ctx context.Context, key, former, value []byte) (bool, error) {
	p := ctx.Value(procKey{}).(*proc)
	p.step()
	if !o.owns() {
		return false, errNotOwner
	}
	epoch, done, swapped := o.epoch, false, false
	delay := p.upTo(2 * ms)
	if p.chance(0.05) {
		delay = p.upTo(200 * ms)
	}
	o.after(delay, func() {
		if done = true; o.epoch == epoch && bytes.Equal(o.values[string(key)], former) {
			o.values[string(key)], swapped = value, true
		}
	})
	if !p.until(50*ms, func() bool { return done }) {
		return false, kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))
	}
	o.back = o.rules.has(noWaitOfNewOwner)
	p.step()
	return swapped, nil
}

// Each implements record.Log.
func (o *office) Each(context.Context, func(key, value []byte)) error { return nil }

// ask has the process of the registry's owner serve a request. One that is not the owner
// may be asked too, which rejects it.
func (r *registry) ask(p *proc, limit time.Duration, serve func(ctx context.Context, b *record.Book) (any, error)) (any, error) {
	to := r.nodes[r.owner]
	if p.chance(0.1) || r.rules.has(registryReadsItsCopy) && p.chance(0.5) {
		to = r.nodes[p.rng.IntN(len(r.nodes))]
	}
	return call(p, to, limit, func(q *proc) (any, error) {
		o := q.office()
		for o.busy {
			q.sleep(ms)
		}
		o.busy = true
		defer func() { o.busy = false }()
		return serve(context.WithValue(context.Background(), procKey{}, q), o.book)
	})
}

// office returns the process's Book, which is a new one after a crash.
func (n *node) office() *office {
	if n.registryAt != n.start {
		n.registryAt = n.start
		n.registryNow = &office{registry: n.registry, node: n}
		n.registryNow.book = record.New(record.Options{Log: n.registryNow, Clock: n.registryNow})
	}
	return n.registryNow
}

const patience = 80 * ms

func (p *proc) getRecord() (*peerpb.Record, time.Duration, error) {
	type answer struct {
		record  *peerpb.Record
		granted time.Duration
	}
	out, err := p.registry.ask(p, patience, func(ctx context.Context, b *record.Book) (any, error) {
		r, granted, err := b.Get(ctx, "db")
		return answer{r, granted}, err
	})
	if err != nil {
		return nil, 0, err
	}
	a := out.(answer)
	return a.record, a.granted, nil
}

func (p *proc) changeRecord(r *peerpb.ChangeRecordRequest) (*peerpb.Record, error) {
	out, err := p.registry.ask(p, patience, func(ctx context.Context, b *record.Book) (any, error) {
		if p.rules.has(noVersion) && len(r.GetLeaving()) == 0 && r.GetExpected() > 0 {
			if present, _, err := b.Get(ctx, "db"); err == nil {
				r.Expected = present.GetVersion()
				r.Record.Standbys = append(r.Record.Standbys[:0:0], r.Record.Standbys[len(r.Record.Standbys)-1])
			}
		}
		return b.Change(ctx, r)
	})
	if err != nil {
		return nil, err
	}
	return out.(*peerpb.Record), nil
}

func (p *proc) claim(r *peerpb.ClaimRequest) (*peerpb.ClaimResponse, error) {
	out, err := p.registry.ask(p, patience, func(ctx context.Context, b *record.Book) (any, error) {
		if p.rules.has(noCompare) {
			if present, _, err := b.Get(ctx, "db"); err == nil && present.GetDeployment() != r.GetPromotion() {
				r.Era, r.Version, r.Disks = present.GetEra(), present.GetVersion(), r.Disks[:0]
				for _, n := range present.GetStandbys() {
					r.Disks = append(r.Disks, n.GetDisk())
				}
			}
		}
		return b.Claim(ctx, r)
	})
	if err != nil {
		return nil, err
	}
	return out.(*peerpb.ClaimResponse), nil
}
