package forward

import (
	"errors"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/kv"
)

// Messages are encoded and decoded by hand, as protobuf does by api/peer.proto. A message is
// the sequence of its calls, or answers: it is sent as it was collected, and what arrives is
// read where it lies.

// The numbers of the fields.
const (
	fieldElement = 1 // calls of ForwardedCalls, answers of ForwardedAnswers

	fieldMaxMessage = 2
	fieldMaxRequest = 3
	fieldClosing    = 4

	fieldID = 1

	fieldOrigin  = 2
	fieldMethod  = 3
	fieldTimeout = 4
	fieldRequest = 5
	fieldCancel  = 6
	fieldClient  = 7

	fieldCaller   = 1
	fieldVBuckets = 2

	fieldResponse = 2
	fieldStatus   = 3
	fieldTooLarge = 4
)

// Codec is that of the stream's sending end: its messages are Messages.
var Codec encoding.CodecV2 = codec{}

type codec struct{}

// Name implements encoding.CodecV2: the bytes are protobuf's.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*Message)
	if !ok {
		return nil, errors.New("the stream of forwarded calls has messages of its own")
	}
	return m.Marshal(), nil
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*Message)
	if !ok {
		return errors.New("the stream of forwarded calls has messages of its own")
	}
	m.Unmarshal(data)
	return nil
}

// Message is an encoded message of the stream.
type Message struct{ data []byte }

// Marshal returns the message for gRPC, which releases it when it was sent.
func (m *Message) Marshal() mem.BufferSlice {
	data := m.data
	m.data = nil
	return mem.BufferSlice{mem.NewBuffer(&data, batches)}
}

// Len is the size of a message that has arrived.
func (m *Message) Len() int { return len(m.data) }

// Unmarshal copies a message that has arrived.
func (m *Message) Unmarshal(data mem.BufferSlice) { m.data = data.Materialize() }

// call is a call as it arrives. Its parts lie in the message that it came with.
type call struct {
	id              uint64
	origin          []byte
	method, request []byte
	timeout         time.Duration
	cancel          bool
	client          []byte
}

// appendCall appends a call to a message. The size of its request was asked for just before.
func appendCall(b []byte, id uint64, c *Call, timeout time.Duration) ([]byte, error) {
	b, begin := open(b, fieldElement)
	b = appendNumber(b, fieldID, id)
	b = appendOrigin(b, c)
	b = protowire.AppendTag(b, fieldMethod, protowire.BytesType)
	b = protowire.AppendString(b, c.Method)
	if c.Client != (kv.Client{}) {
		var begin int
		b, begin = open(b, fieldClient)
		b = closed(c.Client.AppendTo(b), begin)
	}
	if timeout > 0 {
		b = appendNumber(b, fieldTimeout, uint64(max(timeout.Microseconds(), 1)))
	}
	b, err := appendMessage(b, fieldRequest, c.Request, proto.MarshalOptions{UseCachedSize: true})
	return closed(b, begin), err
}

func appendOrigin(b []byte, c *Call) []byte {
	b, begin := open(b, fieldOrigin)
	for _, text := range c.Caller {
		b = protowire.AppendTag(b, fieldCaller, protowire.BytesType)
		b = protowire.AppendString(b, text)
	}
	for i := range c.VBuckets {
		b = protowire.AppendTag(b, fieldVBuckets, protowire.BytesType)
		b = protowire.AppendString(b, c.VBuckets[i])
	}
	return closed(b, begin)
}

func appendCancel(b []byte, id uint64) []byte {
	b, begin := open(b, fieldElement)
	b = appendNumber(b, fieldID, id)
	b = appendNumber(b, fieldCancel, 1)
	return closed(b, begin)
}

// answer is an answer as it arrives: a response, a status, or neither if it is too large.
type answer struct {
	id               uint64
	response, status []byte
	tooLarge         bool
	// moved: there is none, and another node is to be asked.
	moved bool
}

// appendAnswer appends an answer to a message.
func appendAnswer(b []byte, id uint64, a *Answer) ([]byte, error) {
	b, begin := open(b, fieldElement)
	b = appendNumber(b, fieldID, id)
	var err error
	switch {
	case a.TooLarge:
		b = appendNumber(b, fieldTooLarge, 1)
	case a.Status != nil:
		b, err = appendMessage(b, fieldStatus, a.Status, proto.MarshalOptions{})
	case a.Encoded != nil:
		b = protowire.AppendTag(b, fieldResponse, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(a.Encoded.Len()))
		for _, part := range a.Encoded {
			b = append(b, part.ReadOnlyData()...)
		}
	default:
		b, err = appendMessage(b, fieldResponse, a.Response, proto.MarshalOptions{})
	}
	return closed(b, begin), err
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

func appendMessage(b []byte, field protowire.Number, m proto.Message, o proto.MarshalOptions) ([]byte, error) {
	b, begin := open(b, field)
	b, err := o.MarshalAppend(b, m)
	return closed(b, begin), err
}

// lengthBytes is what the length of a part takes: it is written before the length is known,
// as a number of this many bytes, the last of which may be zero.
const lengthBytes = 4

// open begins a part with a length. closed gives it the length.
func open(b []byte, field protowire.Number) (_ []byte, begin int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(b, 0, 0, 0, 0), len(b) + lengthBytes
}

func closed(b []byte, begin int) []byte {
	n := len(b) - begin
	for i := begin - lengthBytes; i < begin-1; i++ {
		b[i] = byte(n) | 0x80
		n >>= 7
	}
	b[begin-1] = byte(n)
	return b
}

// ErrMalformed is wrapped by the error of a stream whose sender breaks its rules.
var ErrMalformed = errors.New("the stream of forwarded calls is malformed")

// fields calls each with every field of a part. Numbers are in n, parts in data.
func fields(b []byte, each func(field protowire.Number, n uint64, data []byte)) error {
	for len(b) > 0 {
		field, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return ErrMalformed
		}
		b = b[size:]
		var n uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			data, size = protowire.ConsumeBytes(b)
		default: // of a later release
			size = protowire.ConsumeFieldValue(field, kind, b)
		}
		if size < 0 {
			return ErrMalformed
		}
		b = b[size:]
		each(field, n, data)
	}
	return nil
}

func parseCall(b []byte) (c call, err error) {
	err = fields(b, func(field protowire.Number, n uint64, data []byte) {
		switch field {
		case fieldID:
			c.id = n
		case fieldOrigin:
			c.origin = data
		case fieldMethod:
			c.method = data
		case fieldTimeout:
			c.timeout = micros(n)
		case fieldRequest:
			c.request = data
		case fieldCancel:
			c.cancel = n != 0
		case fieldClient:
			c.client = data
		}
	})
	return c, err
}

// maxTimeout is longer than any caller waits.
const maxTimeout = 365 * 24 * time.Hour

func micros(n uint64) time.Duration {
	return time.Duration(min(n, uint64(maxTimeout/time.Microsecond))) * time.Microsecond
}

func parseOrigin(b []byte) (o Origin, err error) {
	err = fields(b, func(field protowire.Number, _ uint64, data []byte) {
		switch field {
		case fieldCaller:
			o.Caller = append(o.Caller, string(data))
		case fieldVBuckets:
			o.VBuckets = append(o.VBuckets, string(data))
		}
	})
	return o, err
}

func parseAnswer(b []byte) (a answer, err error) {
	err = fields(b, func(field protowire.Number, n uint64, data []byte) {
		switch field {
		case fieldID:
			a.id = n
		case fieldResponse:
			a.response = data
		case fieldStatus:
			a.status = data
		case fieldTooLarge:
			a.tooLarge = n != 0
		}
	})
	return a, err
}
