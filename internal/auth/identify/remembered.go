package identify

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/auth"
)

// slots is how many credentials are remembered, a power of two.
const slots = 2048

// remembered is a bounded table of what credentials have shown, so that they are checked in
// full only once. It is read without a lock, and a credential that is added replaces one
// with the same slot: a table that is too small costs time only.
type remembered[K comparable] struct {
	seed  maphash.Seed
	table [slots]atomic.Pointer[shown[K]]
}

type shown[K comparable] struct {
	by       K
	identity *auth.Identity
}

func (r *remembered[K]) slot(by K) *atomic.Pointer[shown[K]] {
	return &r.table[maphash.Comparable(r.seed, by)%slots]
}

// find returns what a credential has shown; nil if that is not remembered.
func (r *remembered[K]) find(by K) *auth.Identity {
	if s := r.slot(by).Load(); s != nil && s.by == by {
		return s.identity
	}
	return nil
}

func (r *remembered[K]) add(by K, identity *auth.Identity) { r.slot(by).Store(&shown[K]{by, identity}) }
