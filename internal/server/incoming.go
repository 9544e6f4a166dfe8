package server

import (
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// incoming is a request that gRPC is to decode, for a call that takes memory for what
// becomes of it. On the wire an empty element of a list has two bytes; decoded, one
// that is a message has more than a hundred. So the memory for messages, which counts
// bytes on the wire, does not bound that.
type incoming struct {
	message pb.Message
	call    *unaryCall
	refused error // why it was not decoded
}

const (
	// messageElement and bytesElement are about what an element of a list takes beside
	// its bytes, with what handlers make of it.
	messageElement, bytesElement = 256, 64
	// expandedFrom is what a request may come to beside its bytes without being
	// counted. It is bounded by the number of requests in flight.
	expandedFrom = 16 << 10
)

// decode reads the message, once there is memory for it. That there is none, or that it
// is no message, is no error here: gRPC would end the call with Internal.
func (in *incoming) decode(data mem.BufferSlice) error {
	wire := data.MaterializeToBuffer(buffers)
	defer wire.Free()
	raw := wire.ReadOnlyData()
	if n := expansion(in.message.ProtoReflect().Descriptor(), raw, in.call.calls.mostExpanded()); n > expandedFrom {
		if in.refused = in.call.expand(n); in.refused != nil {
			return nil
		}
	}
	if err := pb.Unmarshal(raw, in.message); err != nil {
		in.refused = statusOf(codes.InvalidArgument, "the request is no %s that can be decoded: %v (not applied)", in.message.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// mostExpanded is how much one request may take when it is decoded, beside its bytes.
func (c *calls) mostExpanded() int64 {
	if c.opts.MaxMemory <= 0 {
		return math.MaxInt64
	}
	return c.opts.MaxMemory / 2
}

// expand takes n bytes for the decoded request, beside those that it has on the wire.
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

// expansion is about how much a message takes when it is decoded, beside its bytes.
// Only its own lists count: none of our messages has lists of messages below. Beyond most
// the rest is taken to be like what was seen: a message that is refused in any case is
// not worth the time.
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

// elementOf is about what an element takes if the field is a list, beside its bytes.
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
