package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/dkvdb/dkv/internal/crc"
)

// A write-ahead log is a header of 20 bytes, of which the first 8 are the number of the
// data key, zero in the clear, and records:
//
//	meta, user meta   1 byte each
//	key length, value length, expiry   varints
//	key, value        the two that are encrypted
//	crc               4 bytes, big endian: CRC-32C of all before, as it is stored
//
// A batch is its entries, each with metaTxn, and an end record with metaEnd,
// whose key begins with endKey. Behind the last record the file is zero.
const (
	logHeader = 20
	metaTxn   = 1 << 6
	metaEnd   = 1 << 7
	endKey    = "!badger!txn"
	// An end record's key has the version behind endKey, in 8 bytes; its value is the
	// version in decimal.
	endKeyLength = len(endKey) + 8
	endValueMost = 20
	// endHeader is the length of an end record before its key: its lengths
	// take one byte each.
	endHeader = 5
)

// verifyLog reports whether replaying a log would lose a batch that was
// acknowledged. Badger replays up to the first record that fails its checksum
// and cuts off the rest, which is right for the batch that a power failure
// interrupted and wrong for any other. Batches are synced one after the other
// and a log before the next one is begun, so behind a torn batch there is at
// most its own end record, in the newest log only. Whole end records beyond
// that are of acknowledged batches.
func verifyLog(path string, newest bool) (err error) {
	file, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(-1)) }()
	data := file.Data
	if len(data) < logHeader {
		return nil // never begun
	}
	count := endRecords
	if binary.BigEndian.Uint64(data) != 0 {
		count = sealedEndRecords
	}
	end := replayable(data)
	tolerated := 0
	if newest {
		tolerated = 1
	}
	if n := count(data[end:]); n > tolerated {
		return corrupt(path, "the record at byte %d fails its checksum, and %d batches follow it", end, n)
	}
	return nil
}

// replayable returns the offset behind the last whole batch that a replay
// reaches.
func replayable(data []byte) int {
	end, at := logHeader, logHeader
	for {
		meta, n := record(data[at:])
		if n == 0 {
			return end
		}
		at += n
		if meta&metaTxn == 0 {
			end = at // an end record
		}
	}
}

// endRecords counts the whole end records in data.
func endRecords(data []byte) int {
	n := 0
	for at := 0; ; at += len(endKey) {
		i := bytes.Index(data[at:], []byte(endKey))
		if i < 0 {
			return n
		}
		at += i
		if at < endHeader {
			continue
		}
		if meta, size := record(data[at-endHeader:]); size > 0 && meta&metaEnd != 0 {
			n++
		}
	}
}

// sealedEndRecords is endRecords for an encrypted log, in which end records are known by
// their lengths and checksums alone.
func sealedEndRecords(data []byte) int {
	n := 0
	for at := 0; at+endHeader < len(data); at++ {
		if data[at]&metaEnd == 0 || int(data[at+2]) != endKeyLength || int(data[at+3]) > endValueMost {
			continue
		}
		if _, size := record(data[at:]); size > 0 {
			n++
			at += size - 1
		}
	}
	return n
}

// record parses the record at the front of p and returns its meta byte and
// length, which is 0 if there is no whole and valid one.
func record(p []byte) (meta byte, n int) {
	if len(p) < 2 {
		return 0, 0
	}
	n = 2
	var sizes [3]uint64 // key, value, expiry
	for i := range sizes {
		v, w := binary.Uvarint(p[n:])
		if w <= 0 {
			return 0, 0
		}
		sizes[i] = v
		n += w
	}
	rest := uint64(len(p) - n)
	if sizes[0] == 0 || sizes[0] > rest || sizes[1] > rest || sizes[0]+sizes[1]+crc.Size > rest {
		return 0, 0
	}
	n += int(sizes[0] + sizes[1])
	if crc.Sum(p[:n]) != binary.BigEndian.Uint32(p[n:]) {
		return 0, 0
	}
	return p[0], n + crc.Size
}
