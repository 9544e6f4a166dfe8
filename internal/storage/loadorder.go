package storage

import (
	"bytes"
	"fmt"
)

// LoadOrder checks that what a load is given is in order. The zero value expects
// the first pair.
type LoadOrder struct {
	begun bool
	space Space
	key   []byte
}

// Check returns an ErrUnordered unless b holds only puts, in order and after all
// that was checked before.
func (o *LoadOrder) Check(b *Batch) error {
	last := o.key // in o, or in b
	err := b.Each(func(op Op) error {
		switch {
		case op.Kind != OpPut:
			return fmt.Errorf("%w: there is a delete", ErrUnordered)
		case o.begun && (op.Space < o.space || op.Space == o.space && bytes.Compare(op.Key, last) <= 0):
			return fmt.Errorf("%w: %s %.40q follows %s %.40q", ErrUnordered, op.Space, op.Key, o.space, last)
		}
		o.begun, o.space, last = true, op.Space, op.Key
		return nil
	})
	o.key = append(o.key[:0], last...)
	return err
}
