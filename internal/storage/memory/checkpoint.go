package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
)

// checkpointName is the one file of a checkpoint:
//
//	magic  8 bytes
//	pair*  space (one byte), key and value, each prefixed by its varint length
//	crc    4 bytes, little endian: CRC-32C of all before
const checkpointName = "checkpoint.mem"

const magic = "DKVMEM1\n"

// writeCheckpoint makes dir and writes s into it, durably. It leaves nothing
// behind when it fails.
func writeCheckpoint(dir string, s *state) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("checkpoint: %w", err), os.RemoveAll(dir))
		}
	}()

	data := []byte(magic)
	for space, t := range s.trees {
		t.Ascend(func(p pair) bool {
			data = append(data, byte(space))
			data = append(binary.AppendUvarint(data, uint64(len(p.key))), p.key...)
			data = append(binary.AppendUvarint(data, uint64(len(p.value))), p.value...)
			return true
		})
	}
	data = binary.LittleEndian.AppendUint32(data, crc.Sum(data))

	f, err := os.OpenFile(filepath.Join(dir, checkpointName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	return errors.Join(err, durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir)))
}

// readCheckpoint reads what writeCheckpoint wrote.
func readCheckpoint(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s holds no checkpoint of a memory engine", storage.ErrBadOptions, dir)
	}
	if err != nil {
		return nil, err
	}
	corrupt := func(what string) error {
		return fmt.Errorf("%w: %s: %s", storage.ErrCorrupt, filepath.Join(dir, checkpointName), what)
	}
	if len(data) < len(magic)+crc.Size || string(data[:len(magic)]) != magic {
		return nil, corrupt("not a checkpoint file")
	}
	body, sum := data[:len(data)-crc.Size], data[len(data)-crc.Size:]
	if binary.LittleEndian.Uint32(sum) != crc.Sum(body) {
		return nil, corrupt("checksum mismatch")
	}
	s := newState()
	for rest := body[len(magic):]; len(rest) > 0; {
		space := storage.Space(rest[0])
		key, rest1, ok1 := takeBytes(rest[1:])
		value, rest2, ok2 := takeBytes(rest1)
		if space >= storage.Spaces || !ok1 || !ok2 {
			return nil, corrupt("malformed pair")
		}
		s.apply(storage.Op{Kind: storage.OpPut, Space: space, Key: key, Value: value})
		rest = rest2
	}
	return s, nil
}

// takeBytes cuts a length-prefixed string off the front of p.
func takeBytes(p []byte) (val, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, false
	}
	return p[w : w+int(n)], p[w+int(n):], true
}
