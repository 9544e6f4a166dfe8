package server

import (
	"encoding/binary"
)

// The frames of HTTP/2 that matter here, by their type.
const (
	frameData    = 0x0
	frameHeaders = 0x1
	frameReset   = 0x3

	flagEndStream = 0x1

	frameHeaderBytes = 9
	// prefaceBytes is the length of the preface that a client sends first.
	prefaceBytes = 24
)

// frame is the header of an HTTP/2 frame.
type frame struct {
	kind, flags byte
	stream      uint32
	length      int
}

// frames finds the frame headers in the bytes of a connection, in whatever pieces they
// arrive. It does not look at payloads.
type frames struct {
	// skip is how many bytes there are until the next header.
	skip   int
	header [frameHeaderBytes]byte
	have   int  // of header
	found  bool // a header
}

// next consumes bytes up to and including the next header that ends in p, and
// returns the rest; done is false if there is none.
func (f *frames) next(p []byte) (head frame, rest []byte, done bool) {
	if f.skip > 0 {
		n := min(f.skip, len(p))
		f.skip -= n
		p = p[n:]
	}
	n := copy(f.header[f.have:], p)
	f.have += n
	if f.have < frameHeaderBytes {
		return frame{}, nil, false
	}
	f.have, f.found = 0, true
	h := &f.header
	head = frame{
		length: int(h[0])<<16 | int(h[1])<<8 | int(h[2]),
		kind:   h[3],
		flags:  h[4],
		stream: binary.BigEndian.Uint32(h[5:]) &^ (1 << 31),
	}
	f.skip = head.length
	return head, p[n:], true
}
