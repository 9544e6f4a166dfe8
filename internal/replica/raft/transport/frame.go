package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/crc"
)

// A frame is
//
//	length   4 bytes, big endian, of the payload
//	kind     1
//	zero     3
//	CRC-32C  4, of the 8 bytes before it and of the payload
//	payload
const headerSize = 12

// kind says what a frame carries.
type kind byte

const (
	// batchFrame carries a raftpb.MessageBatch.
	batchFrame kind = iota + 1
	// offerFrame carries an offer of a snapshot, chunkFrame a raftpb.Chunk of it.
	offerFrame
	chunkFrame
	// verdictFrame is what the receiver of a snapshot makes of an offer or of the whole.
	verdictFrame
)

// LargestEntry is how many bytes the command of an entry may have: Dragonboat sends a batch of
// more than 64 MiB only if that is a single entry, and a larger one would not fit into a frame
// with what goes around it. A log that took one could never send it, nor anything behind it.
const LargestEntry = 64 << 20

// most bounds payloads. Dragonboat sends batches of up to 64 MiB, and chunks of 2 MiB.
var most = map[kind]int{
	batchFrame:   72 << 20,
	offerFrame:   1 << 10,
	chunkFrame:   4 << 20,
	verdictFrame: 4 << 10,
}

const (
	// readBuffer takes many small frames with one read.
	readBuffer = 64 << 10
	// keepBuffer is the largest frame whose memory a sender keeps for the next one, and
	// a receiver takes without asking.
	keepBuffer = 1 << 20
	// step is how much is read or written until the peer has to have made progress
	// again. What a payload says to be its length is also taken from memory in steps,
	// the next one when the one before has come.
	step = 256 << 10
)

var (
	errChecksum = errors.New("a frame fails its checksum")
)

// reserve returns p with room for a header and for n bytes behind it.
func reserve(p []byte, n int) []byte {
	return slices.Grow(p[:0], headerSize+n)[:headerSize+n]
}

// seal writes the header of a frame whose payload stands behind it already.
func seal(frame []byte, k kind) error {
	n := len(frame) - headerSize
	if n > most[k] {
		return fmt.Errorf("a frame of %d bytes is above the limit of %d", n, most[k])
	}
	binary.BigEndian.PutUint32(frame, uint32(n))
	binary.BigEndian.PutUint32(frame[4:], uint32(k)<<24)
	binary.BigEndian.PutUint32(frame[8:], checksum(frame[:8], frame[headerSize:]))
	return nil
}

func checksum(head, payload []byte) uint32 {
	return crc.Extend(crc.Sum(head), payload)
}

// writeAll writes p, a frame mostly in one call. The peer has patience for each step.
func writeAll(conn net.Conn, p []byte, patience time.Duration) error {
	for len(p) > 0 {
		if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := conn.Write(p[:min(len(p), 4*step)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// frames reads frames from a connection.
type frames struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
	// patience is for each step of a frame that has begun.
	patience time.Duration
	// acquire, if there is one, admits n bytes for a frame that is larger than
	// keepBuffer, before any of it is read. release gives back what was admitted.
	acquire func(n int) (release func(), err error)
	release func()
	// keep is the largest payload whose memory is kept for the next one.
	keep int
}

func framesOf(conn net.Conn, patience time.Duration) *frames {
	return &frames{conn: conn, r: bufio.NewReaderSize(conn, readBuffer), patience: patience, keep: step}
}

// next returns the payload of the next frame, which must be of kind k, and begin within
// idle. It is valid until the following call.
func (f *frames) next(k kind, idle time.Duration) ([]byte, error) {
	f.letGo()
	head, err := f.head(idle)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	switch {
	case binary.BigEndian.Uint32(head[4:]) != uint32(k)<<24:
		return nil, fmt.Errorf("a frame begins with %x, which is not what is expected", head)
	case n > most[k]:
		return nil, fmt.Errorf("a frame of %d bytes is announced, above the limit of %d", n, most[k])
	}
	if n > keepBuffer && f.acquire != nil {
		if f.release, err = f.acquire(n); err != nil {
			return nil, err
		}
	}
	payload, err := f.payload(n)
	if err != nil {
		return nil, fmt.Errorf("in a frame of %d bytes: %w", n, err)
	}
	if checksum(head[:8], payload) != binary.BigEndian.Uint32(head[8:]) {
		return nil, errChecksum
	}
	return payload, nil
}

// letGo gives back what was admitted for the last frame.
func (f *frames) letGo() {
	if f.release != nil {
		f.release()
		f.release = nil
	}
}

func (f *frames) head(idle time.Duration) (head [headerSize]byte, err error) {
	if f.r.Buffered() < headerSize {
		if err := f.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return head, err
		}
		if _, err := f.r.Peek(1); err != nil {
			return head, err
		}
	}
	err = f.read(head[:])
	return head, err
}

// payload reads n bytes. It takes memory as they come.
func (f *frames) payload(n int) ([]byte, error) {
	p := f.buf[:0]
	for len(p) < n {
		more := min(n-len(p), max(step, cap(p)-len(p), len(p)))
		p = slices.Grow(p, more)[:len(p)+more]
		if err := f.read(p[len(p)-more:]); err != nil {
			return nil, err
		}
	}
	if cap(p) <= f.keep {
		f.buf = p
	}
	return p, nil
}

// read fills p. Each step of it has to come in time.
func (f *frames) read(p []byte) error {
	for len(p) > 0 {
		part := p[:min(len(p), step)]
		if f.r.Buffered() < len(part) {
			if err := f.conn.SetReadDeadline(time.Now().Add(f.patience)); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(f.r, part); err != nil {
			return err
		}
		p = p[len(part):]
	}
	return nil
}
