package bench

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// ledgerDigits is the room that the unique part of a ledger key takes: sixteen
// hexadecimal digits of the run, twelve decimal ones of the operation.
const ledgerDigits = 16 + 12

// Ledger is the file to which a run of puts appends each key and value once the
// server has acknowledged it. Each put has a key of its own, in this run and
// all others, so that nothing overwrites what the ledger promises.
//
// A line is the key, a space and the value in hexadecimal. Lines are buffered:
// if this process dies the ledger lacks the last of them, which loses no more
// than checks.
type Ledger struct {
	run  string
	next atomic.Uint64

	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	line []byte
	err  error // the first failed write
}

// OpenLedger opens a ledger to append to, and creates it if it does not exist.
func OpenLedger(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the ledger: %w", err)
	}
	if err := endCutLine(file); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot continue the ledger: %w", err), file.Close())
	}
	var run [8]byte
	rand.Read(run[:]) // never fails
	return &Ledger{run: hex.EncodeToString(run[:]), file: file, buf: bufio.NewWriterSize(file, 64<<10)}, nil
}

// cutOff is put at the end of a line that its writer has left without one, as when it was killed: the
// next line would continue it. A line that ends so is left out of what is checked.
const cutOff = " cut off"

// endCutLine ends the last line of a ledger if it has no end.
func endCutLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	in, err := os.Open(file.Name())
	if err != nil {
		return err
	}
	defer in.Close()
	last := make([]byte, 1)
	if _, err := in.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.WriteString(cutOff + "\n")
	return err
}

// writeKey fills key, which has room for ledgerDigits behind the prefix, with
// one that was never used.
func (l *Ledger) writeKey(key []byte, prefix string) {
	n := l.next.Add(1) - 1
	writeKey(key, prefix, n)
	copy(key[len(prefix):], l.run)
}

// acknowledged records a key that the server has acknowledged.
func (l *Ledger) acknowledged(key, value []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.line = append(append(l.line[:0], key...), ' ')
	l.line = append(hex.AppendEncode(l.line, value), '\n')
	if _, err := l.buf.Write(l.line); err != nil {
		l.err = fmt.Errorf("cannot write the ledger: %w", err)
	}
	return l.err
}

// Close writes what is buffered and closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := errors.Join(l.err, l.buf.Flush(), l.file.Close())
	if err != nil {
		return fmt.Errorf("cannot complete the ledger: %w", err)
	}
	return nil
}

// ledgerPut is a put whose acknowledgement goes into the ledger.
type ledgerPut struct {
	*putOp
	ledger *Ledger
}

func newLedgerPut(b *base) *ledgerPut { return &ledgerPut{newPutOp(b), b.cfg.Ledger} }

func (o *ledgerPut) do(ctx context.Context) (effect, error) {
	o.ledger.writeKey(o.req.Key, o.prefix)
	o.req.Value = o.randomValue()
	if err := o.send(ctx); err != nil {
		return effect{}, err
	}
	return effect{items: 1}, o.ledger.acknowledged(o.req.Key, o.req.Value)
}

// entry is one line of a ledger.
type entry struct {
	key, value []byte
}

// readLedger calls visit for each line. A last line without an end was cut off
// when its writer died; it is left out.
func readLedger(in io.Reader, visit func(entry) error) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the ledger: %w", err)
		}
		if strings.HasSuffix(line, cutOff+"\n") {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		decoded, err := hex.DecodeString(value)
		if !ok || err != nil || key == "" {
			return fmt.Errorf("line %d of the ledger is no key and hexadecimal value", n)
		}
		if err := visit(entry{[]byte(key), decoded}); err != nil {
			return err
		}
	}
}
