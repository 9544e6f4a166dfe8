// Package keyfile reads encryption keys from files. No error of it contains what is in a file.
package keyfile

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// longest is more than any form of a key has, with line ends.
const longest = 128

// othersMay are the permissions that a key's file must not have: anything for others, and
// to be written by the group. A group may read it, which is how orchestrators mount secrets.
const othersMay = 0o027

// errForm says what a key's file may contain.
var errForm = errors.New("it holds no key: write 16, 24 or 32 random bytes into it, as they are, in hexadecimal or in base64; for example: openssl rand -hex 32")

// Read returns the key in a file: 16, 24 or 32 bytes, as they are, in hexadecimal or in
// base64. A file that others than its owner and group can read is rejected.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&othersMay != 0:
		return nil, fmt.Errorf("%s has the permissions %04o, with which other users can read or replace the key; run chmod 0600 %s, and make a new key if others had access", path, mode.Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err != nil {
		return nil, err
	}
	key, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// parse decodes a key. Text that has the length of a key but is none of the encodings is
// rejected: it would be a passphrase, which is far easier to guess than a key.
func parse(raw []byte) ([]byte, error) {
	text := strings.TrimRight(string(raw), "\r\n")
	if key, err := hex.DecodeString(text); err == nil && isKey(key) {
		return key, nil
	}
	if key, err := base64.StdEncoding.DecodeString(text); err == nil && isKey(key) {
		return key, nil
	}
	if !isKey(raw) || isText(text) {
		return nil, errForm
	}
	return raw, nil
}

// isKey reports whether a key has a length that AES takes.
func isKey(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }

// isText reports whether all bytes are printable ASCII.
func isText(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
