package witness

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Gate lets answers through while the node has the record's lease, and then asks the next
// gate, if there is one.
type Gate struct {
	Keeper *Keeper
	Next   replica.Gate
}

var _ replica.Gate = (*Gate)(nil)

// Admit implements replica.Gate.
func (g *Gate) Admit(want kv.Ack) error {
	if err := g.Keeper.Held(); err != nil {
		return kv.Errorf(kv.Unavailable, "nothing is written without the lease of the registry: %w", err)
	}
	if g.Next == nil {
		return nil
	}
	return g.Next.Admit(want)
}

// Await implements replica.Gate. The look at the lease comes last: whatever the answer shows,
// no other masters answer then.
func (g *Gate) Await(ctx context.Context, index kv.Index, want kv.Ack) (reached kv.Ack, err error) {
	if g.Next != nil {
		if reached, err = g.Next.Await(ctx, index, want); err != nil {
			return reached, err
		}
	}
	if err := g.Keeper.Held(); err != nil {
		return reached, kv.UnknownOutcome(kv.NotConfirmed, fmt.Errorf("applied here, not confirmed: %w", err))
	}
	return reached, nil
}
