// Package token makes and reads access tokens. A token is
//
//	dkv_ID_SECRETCHECK
//
// with an ID of 8 characters that names the token in logs and in the file of identities, a
// SECRET of 43 characters (256 random bits in base64url) and a CHECK of 6 characters, the
// CRC-32C of what is before it. The file holds only the token's SHA-256: a secret of 256
// random bits cannot be guessed from that, so that no slow hash is needed.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// Prefix begins every token, so that programs that search for leaked secrets find it.
const Prefix = "dkv_"

const (
	idLen     = 8
	secretLen = 43
	checkLen  = 6
	// Length is the length of a token.
	Length = len(Prefix) + idLen + 1 + secretLen + checkLen
	// scheme begins the hash of a token.
	scheme = "sha256:"
)

// ids writes an ID in characters that are not mistaken for each other.
var ids = base32.NewEncoding("abcdefghjkmnpqrstuvwxyz023456789").WithPadding(base32.NoPadding)

// New makes a token.
func New() string {
	var id [5]byte
	var secret [32]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the process instead
	_, _ = rand.Read(secret[:])
	text := Prefix + ids.EncodeToString(id[:]) + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	return text + check(text)
}

// check returns the check of what is before it.
func check(text string) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	return base64.RawURLEncoding.EncodeToString(sum)
}

// Check returns an error that names what is wrong with a token that was mistyped or cut
// off. It is for programs that send tokens: a server gives no such hints.
func Check(text string) error {
	switch {
	case !strings.HasPrefix(text, Prefix):
		return fmt.Errorf("it does not begin with %s: a token looks like dkv_abcdefgh_ and more characters", Prefix)
	case len(text) != Length:
		return fmt.Errorf("it has %d characters instead of %d: a part is missing, or something was added", len(text), Length)
	}
	id, ok := IDOf(text)
	if !ok {
		return errors.New("its characters are not those of a token: copy it again")
	}
	if text[Length-checkLen:] != check(text[:Length-checkLen]) {
		return fmt.Errorf("a character of token %s is wrong: copy it again", id)
	}
	return nil
}

// IDOf returns the ID of a token, and false if the text does not have the form of one.
func IDOf(text string) (id string, ok bool) {
	if len(text) != Length || text[:len(Prefix)] != Prefix || text[len(Prefix)+idLen] != '_' {
		return "", false
	}
	id = text[len(Prefix) : len(Prefix)+idLen]
	if !validID(id) {
		return "", false
	}
	for _, c := range []byte(text[len(Prefix)+idLen+1:]) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return "", false
		}
	}
	return id, true
}

func validID(id string) bool {
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return len(id) == idLen
}

// Digest is the SHA-256 of a token.
type Digest [sha256.Size]byte

// Sum returns the digest of a text that has the form of a token.
func Sum(text string) Digest {
	var buf [Length]byte // on the stack: a call is identified without an allocation
	return sha256.Sum256(buf[:copy(buf[:], text)])
}

// Equal compares in a time that does not depend on where the two differ.
func (d *Digest) Equal(other *Digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// Hash returns what the file of identities holds of a token: "sha256:ID:HEX".
func Hash(text string) (string, error) {
	if err := Check(text); err != nil {
		return "", fmt.Errorf("this is no token: %w", err)
	}
	id, _ := IDOf(text) // Check has found it
	sum := Sum(text)
	return scheme + id + ":" + hex.EncodeToString(sum[:]), nil
}

// ParseHash reads what Hash has written.
func ParseHash(text string) (id string, sum Digest, err error) {
	id, digits, ok := strings.Cut(strings.TrimPrefix(text, scheme), ":")
	if !strings.HasPrefix(text, scheme) || !ok || !validID(id) || len(digits) != 2*len(sum) {
		return "", sum, errors.New(`it does not have the form "sha256:ID:HASH", which dkvctl -token new prints`)
	}
	if _, err := hex.Decode(sum[:], []byte(digits)); err != nil {
		return "", sum, errors.New("the hash is not hexadecimal: copy the line that dkvctl -token new has printed")
	}
	return id, sum, nil
}
