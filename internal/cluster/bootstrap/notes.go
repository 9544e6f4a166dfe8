package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
)

// notesName is the file, beside the identity file, of what the other members have said.
const notesName = "members.json"

// notesFormat is the newest format of the file that this release reads.
const notesFormat = 1

// notes are what a node needs to know about the other members before it has read its
// state, by replica number.
type notes struct {
	Format int `json:"format"`
	// Starts are the latest starts that members have reported to this node themselves.
	Starts map[uint64]Start `json:"starts,omitempty"`
	// Addresses are the members' gRPC addresses.
	Addresses map[uint64]string `json:"addresses,omitempty"`
	// Checksum is the CRC-32C of the file with this field empty, in hex.
	Checksum string `json:"checksum"`
}

func (n *notes) json() ([]byte, error) {
	content, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("notes of the members: %w", err)
	}
	return append(content, '\n'), nil
}

func (n *notes) sum() (string, error) {
	c := *n
	c.Checksum = ""
	content, err := c.json()
	if err != nil {
		return "", err
	}
	return checksum(content), nil
}

func (f file) notesPath() string { return filepath.Join(f.dir, notesName) }

// loadNotes reads the notes; there are none in a new folder.
func (f file) loadNotes() (notes, error) {
	content, err := os.ReadFile(f.notesPath())
	if errors.Is(err, fs.ErrNotExist) {
		return notes{}, nil
	}
	if err != nil {
		return notes{}, err
	}
	var n notes
	if err := json.Unmarshal(content, &n); err != nil {
		return notes{}, fmt.Errorf("%w: %s: %v", ErrCorrupt, f.notesPath(), err)
	}
	switch sum, err := n.sum(); {
	case err != nil:
		return notes{}, err
	case n.Format > notesFormat:
		return notes{}, fmt.Errorf("%w: %s has format %d, and this version knows %d: a newer version has written it", ErrMismatch, f.notesPath(), n.Format, notesFormat)
	case n.Format != notesFormat || sum != n.Checksum:
		return notes{}, fmt.Errorf("%w: %s: format %d, checksum %q, but that of its content is %s", ErrCorrupt, f.notesPath(), n.Format, n.Checksum, sum)
	}
	return n, nil
}

// storeNotes writes the notes; they are durable when it returns nil.
func (f file) storeNotes(n notes) error {
	n.Format = notesFormat
	var err error
	if n.Checksum, err = n.sum(); err != nil {
		return err
	}
	content, err := n.json()
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(f.dir); err != nil {
		return fmt.Errorf("notes of the members: %w", err)
	}
	if err := f.write(f.notesPath(), content); err != nil {
		return fmt.Errorf("notes of the members: %w", err)
	}
	return nil
}

// Heard returns the latest starts that members have reported to this node themselves, by
// replica number.
func (id *Identity) Heard() map[uint64]Start {
	id.mu.Lock()
	defer id.mu.Unlock()
	return maps.Clone(id.notes.Starts)
}

// Hear records the current start of a member. It is durable when Hear returns nil.
// Recording the same again costs nothing.
func (id *Identity) Hear(replica uint64, s Start) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.notes.Starts[replica] == s {
		return nil
	}
	next := id.notes
	next.Starts = with(next.Starts, replica, s)
	return id.setNotes(next)
}

// Addresses returns the members' gRPC addresses that this node knows, by replica number.
func (id *Identity) Addresses() map[uint64]string {
	id.mu.Lock()
	defer id.mu.Unlock()
	return maps.Clone(id.notes.Addresses)
}

// SetAddresses records the members' gRPC addresses. They are durable when SetAddresses
// returns nil. Recording the same again costs nothing.
func (id *Identity) SetAddresses(addresses map[uint64]string) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.setAddresses(addresses)
}

// setAddresses is SetAddresses for a caller that holds mu.
func (id *Identity) setAddresses(addresses map[uint64]string) error {
	if maps.Equal(addresses, id.notes.Addresses) {
		return nil
	}
	next := id.notes
	next.Addresses = maps.Clone(addresses)
	return id.setNotes(next)
}

// setNotes replaces the notes. The caller holds mu.
func (id *Identity) setNotes(next notes) error {
	if err := id.file.storeNotes(next); err != nil {
		return err
	}
	id.notes = next
	return nil
}

// with returns a copy of m in which key has a value.
func with[V any](m map[uint64]V, key uint64, value V) map[uint64]V {
	out := maps.Clone(m)
	if out == nil {
		out = make(map[uint64]V)
	}
	out[key] = value
	return out
}
