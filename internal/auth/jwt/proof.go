package jwt

import "crypto"

// Proof is what a JWT was accepted by. It is kept with the identity of a stream, which must
// not outlive it: with a stolen key, JWTs can be made that never end.
type Proof struct {
	issuer, audience string
	key              crypto.PublicKey
}

// Holds reports whether a proof is still one: the key is in use, and the issuer and the
// audience are those that are expected. While no keys could be fetched it holds.
func (v *Verifier) Holds(p *Proof) bool {
	if p.issuer != v.policy.Issuer || p.audience != v.policy.Audience {
		return false
	}
	set := v.keys.current()
	return set == nil || set.has(p.key)
}

// has reports whether a key is one of the set.
func (k *Keys) has(public crypto.PublicKey) bool {
	for i := range k.all {
		if own, ok := k.all[i].Key.(interface{ Equal(crypto.PublicKey) bool }); ok && own.Equal(public) {
			return true
		}
	}
	return false
}
