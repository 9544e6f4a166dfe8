package kv

import (
	"crypto/rand"
	"encoding/hex"
)

// NewID returns a random id: 32 hexadecimal digits.
func NewID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(id[:])
}
