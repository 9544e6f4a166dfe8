package identify

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/jwt"
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
	by K
	// hash is compared before the credential is, so that the time that a wrong one takes
	// shows nothing of it.
	hash uint64
	// keys are those that a JWT was checked with.
	keys     *jwt.Keys
	identity *auth.Identity
}

// find returns what a credential has shown; nil if that is not remembered, or was found with
// other keys.
func (r *remembered[K]) find(by K, keys *jwt.Keys) *auth.Identity {
	hash := maphash.Comparable(r.seed, by)
	if s := r.table[hash%slots].Load(); s != nil && s.hash == hash && s.keys == keys && s.by == by {
		return s.identity
	}
	return nil
}

func (r *remembered[K]) add(by K, keys *jwt.Keys, identity *auth.Identity) {
	hash := maphash.Comparable(r.seed, by)
	r.table[hash%slots].Store(&shown[K]{by, hash, keys, identity})
}
