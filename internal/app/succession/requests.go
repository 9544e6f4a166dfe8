package succession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// requestsPrefix begins the names of the files with the founder's remembered requests, one for
// each vBucket: a line with the promotion, the parts, each behind its length, and a checksum.
const requestsPrefix = "PROMOTION-requests-"

func writeRequests(dir, promotion, vBucket string, parts [][]byte) error {
	out := []byte(promotion + "\n")
	for _, p := range parts {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(p))), p...)
	}
	out = binary.BigEndian.AppendUint32(out, crc.Sum(out))
	return durable.WriteFile(filepath.Join(dir, requestsPrefix+vBucket), out)
}

// readRequests returns what writeRequests has written for a promotion.
func readRequests(dir, promotion, vBucket string) (parts [][]byte, err error) {
	path := filepath.Join(dir, requestsPrefix+vBucket)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	damaged := fmt.Errorf("%s is damaged; remove this node from its cluster (dkvctl -removeNode), and add it again with an empty db-folder", path)
	head := promotion + "\n"
	if len(raw) < len(head)+4 || !strings.HasPrefix(string(raw), head) {
		return nil, damaged
	}
	body := raw[:len(raw)-4]
	if binary.BigEndian.Uint32(raw[len(body):]) != crc.Sum(body) {
		return nil, damaged
	}
	for rest := body[len(head):]; len(rest) > 0; {
		if len(rest) < 4 || uint32(len(rest)-4) < binary.BigEndian.Uint32(rest) {
			return nil, damaged
		}
		n := 4 + binary.BigEndian.Uint32(rest)
		parts, rest = append(parts, rest[4:n]), rest[n:]
	}
	return parts, nil
}

// importRequests replaces the remembered requests in a state by the founder's.
func importRequests(engine storage.Engine, dir, promotion, vBucket string) error {
	parts, err := readRequests(dir, promotion, vBucket)
	if err != nil {
		return err
	}
	to := offline.ImportRequests(engine)
	for _, p := range parts {
		if err := to.Add(p); err != nil {
			return err
		}
	}
	return to.Finish()
}

// dropRequests deletes the files, once the promotion is done.
func dropRequests(dir string) error {
	names, err := datadir.Named(dir, requestsPrefix)
	for _, name := range names {
		if rm := os.Remove(filepath.Join(dir, name)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}
