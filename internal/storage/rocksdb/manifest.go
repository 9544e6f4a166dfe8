package rocksdb

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// A manifest has the form of a log (see wal.go). Each record is a change of what the database
// consists of: tags, each followed by its fields. (See version_edit.h in RocksDB's source.)
const (
	tagLogNumber    = 2       // the first log that a column family needs
	tagMinLogNumber = 10      // the first log that the database needs
	tagNewFile      = 103     // a sorted file
	endOfNewFile    = 1       // the tag behind the last of its optional fields
	tagIgnorable    = 1 << 13 // set in tags that an older release may pass over
)

// manifestFields are the fields of each tag that RocksDB writes for this engine: n is a number,
// b are bytes with their length before them.
var manifestFields = map[uint64]string{
	1:               "b", // the comparator's name
	tagLogNumber:    "n",
	3:               "n",  // the next file's number
	4:               "n",  // the last mutation's sequence number
	5:               "nb", // where the last compaction of a level ended
	6:               "nn", // a file that is no longer needed
	9:               "n",  // 0: an earlier log, as RocksDB once had it
	tagMinLogNumber: "n",
	tagNewFile:      "nnnbbnn",
	200:             "n", // which column family the record is about
	201:             "b", // the name of a new column family
	202:             "",  // the column family is dropped
	203:             "n", // the greatest number of a column family
	300:             "n", // how many records take effect together with this one
}

// manifestLogs is what a manifest says about the write-ahead log.
type manifestLogs struct {
	// needed is the number of the first file that is not obsolete; 0 if it is not said.
	needed uint64
	// named are the numbers of files of the log that are or were needed, some of them repeated.
	named []uint64
}

// readManifest reads a manifest up to the first record that is not whole, as a crash leaves
// it. known is false if it has a tag that is not known here.
func readManifest(path string) (logs manifestLogs, known bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return logs, false, err
	}
	defer f.Close()
	var r logReader
	var record []byte
	block := make([]byte, logBlock)
	for {
		n, err := io.ReadFull(f, block)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return logs, false, err
		}
		for at := 0; n-at >= logFragmentHeader; {
			kind, payload, ok := r.fragment(block[at:n])
			if !ok {
				return logs, true, nil
			}
			at += logFragmentHeader + len(payload)
			if kind == fullFragment || kind == firstFragment {
				record = record[:0]
			}
			record = append(record, payload...)
			if (kind == fullFragment || kind == lastFragment) && !logs.add(record) {
				return logs, false, nil
			}
		}
		if err != nil {
			return logs, true, nil
		}
	}
}

// add adds what a record says, and reports whether all of its tags are known.
func (l *manifestLogs) add(record []byte) bool {
	r := fieldReader{rest: record, ok: true}
	for r.ok && len(r.rest) > 0 {
		tag := r.number()
		fields, known := manifestFields[tag]
		if !known {
			if tag&tagIgnorable == 0 {
				return false
			}
			fields = "b"
		}
		var last uint64
		for _, field := range fields {
			if field == 'n' {
				last = r.number()
			} else {
				r.skip(r.number())
			}
		}
		switch tag {
		case tagNewFile:
			for r.ok && r.number() != endOfNewFile {
				r.skip(r.number())
			}
		case tagMinLogNumber:
			l.needed = max(l.needed, last)
			l.named = append(l.named, last)
		case tagLogNumber:
			l.named = append(l.named, last)
		}
	}
	return r.ok
}

// fieldReader reads fields, until there is one that is not whole.
type fieldReader struct {
	rest []byte
	ok   bool
}

func (r *fieldReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.skip(uint64(max(n, 0)))
	r.ok = r.ok && n > 0
	return v
}

func (r *fieldReader) skip(n uint64) {
	r.ok = r.ok && n <= uint64(len(r.rest))
	if r.ok {
		r.rest = r.rest[n:]
	}
}
