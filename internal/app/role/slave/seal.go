package slave

import (
	"context"
	"errors"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/slave"
)

// beginSealing waits until no other call seals or unseals the copies: what one undoes, another
// would count on. The caller calls end.
func (s *Slave) beginSealing(ctx context.Context) (end func(), err error) {
	select {
	case s.sealing <- struct{}{}:
		return func() { <-s.sealing }, nil
	case <-ctx.Done():
		return nil, kv.Errorf(kv.Unavailable, "another call to seal or unseal the copies is under way and waits for the disk (not applied): %w", ctx.Err())
	}
}

// Seal seals the copies of all vBuckets for a promotion, or none: see slave.Puller.Seal.
func (s *Slave) Seal(ctx context.Context, promotion string) error {
	end, err := s.beginSealing(ctx)
	if err != nil {
		return err
	}
	defer end()
	for i, c := range s.copies {
		if err := c.puller.Seal(ctx, promotion); err != nil {
			for _, sealed := range s.copies[:i] {
				err = errors.Join(err, sealed.puller.Unseal(context.WithoutCancel(ctx), promotion))
			}
			return err
		}
	}
	return nil
}

// Unseal ends the seal of a promotion that was given up. It is repeatable.
func (s *Slave) Unseal(ctx context.Context, promotion string) error {
	end, err := s.beginSealing(ctx)
	if err != nil {
		return err
	}
	defer end()
	var failed error
	for _, c := range s.copies {
		failed = errors.Join(failed, c.puller.Unseal(ctx, promotion))
	}
	return failed
}

// Positions returns how far the copies are, in hash order of their vBuckets.
func (s *Slave) Positions(ctx context.Context) ([]slave.Position, error) {
	out := make([]slave.Position, len(s.copies))
	for i, c := range s.copies {
		var err error
		if out[i], err = c.puller.Reached(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Masters returns the addresses of the masters that the copies follow, or could.
func (s *Slave) Masters() []string {
	var out []string
	add := func(address string) {
		if address != "" && !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	sources := s.sources()
	for i, name := range s.node.Layout.VBuckets {
		add(s.copies[i].Owner().Address)
		add(s.copies[i].puller.Status().Master)
		for _, source := range sources.Candidates(name) {
			add(source.Address)
		}
	}
	return out
}

// Agrees reports whether a vBucket's copy is known to be a part of its masters' log.
func (s *Slave) Agrees(vBucket string) bool {
	i := slices.Index(s.node.Layout.VBuckets, vBucket)
	return i >= 0 && s.copies[i].puller.Agrees()
}

// CatchUp brings a sealed copy to an index, by the changes of another node of the promotion.
func (s *Slave) CatchUp(ctx context.Context, promotion, vBucket, address string, upTo kv.Index) error {
	for i, name := range s.node.Layout.VBuckets {
		if name == vBucket {
			return s.copies[i].puller.CatchUp(ctx, promotion, address, upTo)
		}
	}
	return kv.Errorf(kv.NotFound, "vBucket %s is not known here", vBucket)
}

// ExportRequests calls yield with the remembered requests of a copy that a promotion has
// sealed.
func (s *Slave) ExportRequests(ctx context.Context, promotion, vBucket string, yield func(records []byte) error) error {
	for i, name := range s.node.Layout.VBuckets {
		if name == vBucket {
			return s.copies[i].ExportRequests(ctx, promotion, yield)
		}
	}
	return kv.Errorf(kv.NotFound, "vBucket %s is not known here", vBucket)
}
