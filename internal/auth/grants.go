package auth

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxName is the longest name of an identity. It is sent with each forwarded call.
const maxName = 128

// CheckName returns an error, to be put behind the name, if an identity cannot be called so:
// names are sent in headers and written in logs.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("has %d characters: write 1 to %d", len(name), maxName)
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-@:/+=|~", c) >= 0) {
			return errors.New("has a character that names cannot have: write letters, digits and . _ - @ : / + = | ~")
		}
	}
	return nil
}

// granted are the roles that a grant may have, in the order of their numbers in a
// forwarded call.
var granted = []Role{Read, Write, Watch, Replication, Admin}

// Check returns an error, to be put behind "a grant", if the grant is none that can be
// given.
func (g *Grant) Check() error {
	switch {
	case g.Role == "":
		return errors.New("has no role: add the key role")
	case g.Role == Node:
		return errors.New("of the role node cannot be given: it comes with the certificate of a node")
	case !slices.Contains(granted, g.Role):
		return fmt.Errorf("has the unknown role %q: write read, write, watch, replication or admin", string(g.Role))
	case (g.Role == Replication || g.Role == Admin) && len(g.Prefixes) > 0:
		return fmt.Errorf("of the role %s has prefixes, but its calls are not about single keys: remove the prefixes, or grant read, write or watch", g.Role)
	case slices.ContainsFunc(g.Prefixes, func(p []byte) bool { return len(p) == 0 }):
		return errors.New("has an empty prefix, with which all keys begin: write the prefix, or remove the prefixes to grant all keys")
	case slices.Contains(g.Databases, ""):
		return errors.New("has a database without a name: write the name, or remove the databases to grant all")
	}
	return nil
}

// grantsVersion is the first byte of encoded grants.
const grantsVersion = 1

// MaxEncodedGrants is the longest text that DecodeGrants reads, in bytes.
const MaxEncodedGrants = 8 << 10

// EncodeGrants returns what travels with a forwarded call of an identity that is not in the
// file: its grants and when it ends. The form is a version, the end in seconds since 1970,
// and for each grant the role's number, the databases and the prefixes; numbers are
// uvarints, each list and each text begins with its length, and all of it is base64url.
func EncodeGrants(i *Identity) (string, error) {
	b := []byte{grantsVersion}
	var ends uint64
	if !i.Expires.IsZero() {
		ends = uint64(max(i.Expires.Unix(), 1))
	}
	b = binary.AppendUvarint(b, ends)
	b = binary.AppendUvarint(b, uint64(len(i.Grants)))
	for _, g := range i.Grants {
		b = binary.AppendUvarint(b, uint64(slices.Index(granted, g.Role)))
		b = appendList(b, g.Databases)
		b = appendList(b, g.Prefixes)
	}
	if base64.RawURLEncoding.EncodedLen(len(b)) > MaxEncodedGrants {
		return "", fmt.Errorf("the grants of %q are larger than the %d bytes that can be sent to another node: have fewer in its JWT", i.Name, MaxEncodedGrants)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func appendList[T ~string | ~[]byte](b []byte, list []T) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, text := range list {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

// errEncodedGrants is the error about grants that no node has sent, or a newer one.
var errEncodedGrants = errors.New("the grants of a forwarded call have a form that this version does not know: have all nodes run the same version")

// DecodeGrants returns the identity of a forwarded call whose grants were sent with it. It
// accepts only what EncodeGrants has written.
func DecodeGrants(name, encoded string) (*Identity, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("the name of a forwarded call %w", err)
	}
	if len(encoded) > MaxEncodedGrants {
		return nil, errEncodedGrants
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) == 0 || b[0] != grantsVersion {
		return nil, errEncodedGrants
	}
	d := decoder{rest: b[1:]}
	i := &Identity{Kind: Named, Name: name, Carried: true}
	if ends := d.number(); ends > 0 && ends < 1<<40 {
		i.Expires = time.Unix(int64(ends), 0)
	}
	for n := d.number(); n > 0 && !d.failed; n-- {
		g := Grant{Role: d.role(), Databases: list[string](&d), Prefixes: list[[]byte](&d)}
		if g.Check() != nil {
			return nil, errEncodedGrants
		}
		i.Grants = append(i.Grants, g)
	}
	if again, err := EncodeGrants(i); d.failed || err != nil || again != encoded {
		return nil, errEncodedGrants
	}
	return i, nil
}

// decoder reads what EncodeGrants has written; failed is set by what it has not.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) role() Role {
	if n := d.number(); n < uint64(len(granted)) {
		return granted[n]
	}
	return ""
}

// list reads a list; it has no more elements than there are bytes.
func list[T ~string | ~[]byte](d *decoder) []T {
	var all []T
	for n := d.number(); n > 0 && !d.failed; n-- {
		size := d.number()
		if size > uint64(len(d.rest)) {
			d.failed = true
			break
		}
		all = append(all, T(slices.Clone(d.rest[:size])))
		d.rest = d.rest[size:]
	}
	return all
}
