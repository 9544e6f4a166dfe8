package server

import (
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// incoming is a request that gRPC decodes, for a call that reserves memory for the result.
// On the wire an empty element of a list has two bytes; decoded, a message takes more than
// a hundred. The bound on messages counts bytes on the wire and does not cover that.
type incoming struct {
	message pb.Message
	call    *unaryCall
	refused error // why it was not decoded
}

const (
	// messageElement and bytesElement estimate what an element of a list takes beyond its
	// bytes, including what handlers make of it.
	messageElement, bytesElement = 256, 64
	// expandedFrom is what a decoded request may take beyond its bytes without being
	// counted: the number of requests in flight bounds that.
	expandedFrom = 16 << 10
	// turnsFrom is what it may take without waiting for its turn: thousands of elements keep a
	// processor busy for milliseconds, and its garbage does so again. A client whose requests
	// have many more leaves half of the processors to others.
	turnsFrom = 256 << 10
)

// decode decodes the message once there is memory for it. A failure is kept in refused
// and not returned: gRPC would end the call with Internal.
func (in *incoming) decode(data mem.BufferSlice) error {
	wire := data.MaterializeToBuffer(buffers)
	defer wire.Free()
	raw := wire.ReadOnlyData()
	n := expansion(in.message.ProtoReflect().Descriptor(), raw, in.call.calls.mostExpanded())
	if n > expandedFrom {
		if in.refused = in.call.expand(n); in.refused != nil {
			return nil
		}
	}
	if n > turnsFrom {
		in.refused = in.decodeInTurn(raw)
	} else {
		in.refused = decoded(raw, in.message)
	}
	return nil
}

// decodeInTurn decodes a message of many elements when it is the client's turn.
func (in *incoming) decodeInTurn(raw []byte) error {
	k := in.call.call
	gate := k.calls.decoding
	err := gate.Enter(k, k.Client())
	if err == nil {
		defer gate.Leave()
		err = k.Err()
	}
	if err != nil {
		return statusOf(status.FromContextError(err).Code(), "waiting for other large requests: %v (not applied)", err)
	}
	return decoded(raw, in.message)
}

// decoded decodes a message. Its error is that of a client that has sent none.
func decoded(raw []byte, m pb.Message) error {
	if err := pb.Unmarshal(raw, m); err != nil {
		return statusOf(codes.InvalidArgument, "the request is no %s that can be decoded: %v (not applied)", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// streamedMessage is a message of a stream that gRPC decodes. As for unary calls, a failure
// is kept in refused.
type streamedMessage struct {
	message pb.Message
	size    int // on the wire
	refused error
}

func (in *streamedMessage) decode(data mem.BufferSlice) error {
	in.size = data.Len()
	wire := data.MaterializeToBuffer(buffers)
	defer wire.Free()
	in.refused = decoded(wire.ReadOnlyData(), in.message)
	return nil
}

// metadataFrom is what the metadata of a call may take without being counted. What it has on the wire
// does not tell: a byte may stand for all that HTTP/2's table holds.
const metadataFrom = 4 << 10

// metadataSize estimates what the metadata of a call takes. Values of HTTP/2's table may share their
// memory, but not those of keys that end with -bin, each of which gRPC decodes, nor the names of
// compressions, which it joins.
func (k *call) metadataSize() (n int64) {
	const perValue = 16 // what a text takes beyond its bytes
	for key, values := range k.header {
		n += int64(len(key))
		for _, v := range values {
			n += int64(len(v) + perValue)
		}
	}
	return n
}

// countMetadata counts the metadata of a call that has much of it, as bytes of the request: it is
// there before anything of the message is, and for as long, or until the stream ends. That of calls
// which share a stream has come as a part of their messages.
func (k *call) countMetadata() error {
	if k.conn == nil || k.forwarded {
		return nil
	}
	n := k.metadataSize()
	if n < metadataFrom {
		return nil
	}
	over, full := k.conn.hold(k, n)
	if !over && !full || k.conn.makeRoom(full) {
		return nil
	}
	k.calls.limited(limitMemory)
	return toStatus(memoryFull(k.calls.wire.limit))
}

// hold counts n bytes that the metadata of a call takes until release. It reports whether all
// requests, or those of the connection, hold too much with them.
func (c *conn) hold(k *call, n int64) (over, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.over || c.closed {
		return false, false
	}
	if k.method.streaming {
		k.metadata += n
		c.calls.wire.metadata.Add(n)
	} else {
		k.bytes += n
	}
	c.received += n
	w := c.calls.wire
	return w.held.Add(n) > w.limit, c.received > w.perConn
}

// mostExpanded is how much one decoded request may take beyond its bytes.
func (c *calls) mostExpanded() int64 {
	if c.opts.MaxMemory <= 0 {
		return math.MaxInt64
	}
	return c.opts.MaxMemory / 2
}

// expand reserves n bytes for the decoded request, beyond those that it has on the wire.
func (u *unaryCall) expand(n int64) error {
	c := u.calls
	if c.opts.MaxMemory <= 0 {
		return nil
	}
	if most := c.mostExpanded(); n > most {
		c.limited(limitMemory)
		return statusOf(codes.InvalidArgument,
			"the elements of the request would take %d MiB of memory, the limit is %d MiB (half of max-memory-in-flight); split it (not applied)", n>>20, most>>20)
	}
	return u.acquire(c.decoded, n, &u.expanded)
}

// expansion estimates how much a decoded message takes beyond its bytes. Only its own
// lists count: none of our messages has lists of messages further down. Once the estimate
// exceeds most, the rest is extrapolated: the message is rejected in any case.
func expansion(of protoreflect.MessageDescriptor, raw []byte, most int64) (n int64) {
	fields := of.Fields()
	var last protowire.Number
	var element int64 // of a list with the number last
	for rest := raw; len(rest) > 0; {
		number, kind, tag := protowire.ConsumeTag(rest)
		if tag < 0 {
			return n // decoding will say what is wrong
		}
		value := protowire.ConsumeFieldValue(number, kind, rest[tag:])
		if value < 0 {
			return n
		}
		rest = rest[tag+value:]
		if number != last { // elements of a list follow each other
			last, element = number, elementOf(fields.ByNumber(number))
		}
		if kind != protowire.BytesType {
			continue
		}
		if n += element; n > most {
			return int64(float64(n) * float64(len(raw)) / float64(len(raw)-len(rest)))
		}
	}
	return n
}

// elementOf estimates what an element takes beyond its bytes; 0 if the field is no list.
func elementOf(field protoreflect.FieldDescriptor) int64 {
	switch {
	case field == nil || field.Cardinality() != protoreflect.Repeated:
		return 0
	case field.Message() != nil:
		return messageElement
	case field.Kind() == protoreflect.BytesKind || field.Kind() == protoreflect.StringKind:
		return bytesElement
	}
	return 0
}
