package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

// sealFile holds the id of the promotion for which a vBucket's copy stays as it is. Unlike
// an order it concerns all generations.
const sealFile = "SEALED"

// Seal writes down, durably, that a promotion has sealed the vBucket.
func (g *Generations) Seal(promotion string) error {
	if promotion == "" || strings.ContainsAny(promotion, "\r\n") {
		return fmt.Errorf("a promotion's id is one line, not %q", promotion)
	}
	return durable.WriteFile(filepath.Join(g.path, sealFile), []byte(promotion+"\n"))
}

// Unseal removes what Seal has written. It is repeatable.
func (g *Generations) Unseal() error {
	if err := os.Remove(filepath.Join(g.path, sealFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(g.path)
}

// Sealed returns the promotion that has sealed the vBucket; empty for none.
func (g *Generations) Sealed() (string, error) {
	path := filepath.Join(g.path, sealFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	promotion, _, whole := strings.Cut(string(raw), "\n")
	if !whole || promotion == "" {
		return "", fmt.Errorf("%s is damaged; write the id of the promotion that has sealed this copy into it, as dkvctl -status of the other nodes of the promotion shows it", path)
	}
	return promotion, nil
}
