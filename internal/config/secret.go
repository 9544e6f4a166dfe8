package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// secretFileValue is the name of a file with a secret. A secret that stands in its place is
// rejected, and not repeated: command lines and environments are no place for it.
type secretFileValue struct{ p *string }

var errSecretItself = errors.New("this is a secret itself (not shown), and others can see it here: write it into a file that only this user can read, and name that file")

func (v secretFileValue) set(text string) error {
	if looksSecret(text) {
		return errSecretItself
	}
	return pathValue{p: v.p}.set(text)
}

func (v secretFileValue) text() string { return *v.p }
func (v secretFileValue) kind() string { return "PATH" }

// looksSecret reports whether a text is a token, a key or a PEM block, rather than a path.
func looksSecret(text string) bool {
	const (
		jwtStart   = "eyJ" // {" in base64
		tokenStart = "dkv_"
		shortest   = 32 // characters of the shortest key or token
	)
	text = strings.TrimSpace(text)
	if strings.Contains(text, "-----BEGIN") {
		return true
	}
	if len(text) < shortest-8 {
		return false
	}
	if key, err := hex.DecodeString(text); err == nil && len(key) >= 16 {
		return true
	}
	if key, err := base64.StdEncoding.DecodeString(text); err == nil && len(key) >= 16 && strings.HasSuffix(text, "=") {
		return true
	}
	return len(text) >= shortest && strings.HasPrefix(text, tokenStart) && !strings.ContainsAny(text, "/.") ||
		strings.HasPrefix(text, jwtStart) && strings.Count(text, ".") == 2 && !strings.Contains(text, "/")
}
