package etcd

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dkvdb/dkv/api/serverpb"
)

// The messages below are those of etcd's api/etcdserverpb/rpc.proto and
// api/mvccpb/kv.proto, with the fields that a measurement uses.

// request is a message that is sent.
type request interface{ append(b []byte) []byte }

// response is a message that is received. field gets each of its fields: number, type,
// and the value of a varint or the content of bytes.
type response interface {
	field(n protowire.Number, varint uint64, content []byte) error
}

type putRequest struct{ *serverpb.PutRequest }

func (r *putRequest) append(b []byte) []byte {
	return appendBytes(appendBytes(b, 1, r.Key), 2, r.Value)
}

type rangeRequest struct{ *serverpb.GetRequest }

func (r *rangeRequest) append(b []byte) []byte {
	b = appendBytes(b, 1, r.Key)
	if r.ReadConsistency != serverpb.ReadConsistency_LINEARIZABLE {
		b = protowire.AppendVarint(protowire.AppendTag(b, 7, protowire.VarintType), 1) // serializable
	}
	return b
}

// txnRequest puts all keys, without a condition.
type txnRequest struct{ puts []*serverpb.PutRequest }

func (r *txnRequest) append(b []byte) []byte {
	for _, put := range r.puts {
		op := appendBytes(nil, 2, (&putRequest{put}).append(nil)) // RequestOp.request_put
		b = appendBytes(b, 2, op)                                 // success
	}
	return b
}

type statusRequest struct{}

func (statusRequest) append(b []byte) []byte { return b }

// header is etcd's ResponseHeader, field 1 of every response.
type header struct{ member, revision uint64 }

func (h *header) field(n protowire.Number, varint uint64, _ []byte) error {
	switch n {
	case 2:
		h.member = varint
	case 3:
		h.revision = varint
	}
	return nil
}

// putResponse is the response of Put and of Txn, of which only the header counts.
type putResponse struct{ header header }

func (r *putResponse) field(n protowire.Number, _ uint64, content []byte) error {
	if n == 1 {
		return parse(content, &r.header)
	}
	return nil
}

type rangeResponse struct {
	header header
	value  []byte
	found  bool
}

func (r *rangeResponse) field(n protowire.Number, _ uint64, content []byte) error {
	switch n {
	case 1:
		return parse(content, &r.header)
	case 2:
		r.found = true
		return parse(content, (*keyValue)(r))
	}
	return nil
}

// keyValue takes the value of a KeyValue into its response.
type keyValue rangeResponse

func (r *keyValue) field(n protowire.Number, _ uint64, content []byte) error {
	if n == 5 {
		r.value = append(r.value[:0], content...)
	}
	return nil
}

type statusResponse struct {
	header  header
	version string
	leader  uint64
}

func (r *statusResponse) field(n protowire.Number, varint uint64, content []byte) error {
	switch n {
	case 1:
		return parse(content, &r.header)
	case 2:
		r.version = string(content)
	case 4:
		r.leader = varint
	}
	return nil
}

func appendBytes(b []byte, n protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), content)
}

// parse gives the fields of a message to r. Fixed-size fields, of which these messages
// have none, are skipped.
func parse(b []byte, r response) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		var varint uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			varint, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			content, size = protowire.ConsumeBytes(b)
		default:
			size = protowire.ConsumeFieldValue(n, kind, b)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		b = b[size:]
		if kind == protowire.VarintType || kind == protowire.BytesType {
			if err := r.field(n, varint, content); err != nil {
				return err
			}
		}
	}
	return nil
}

var useCodec = grpc.ForceCodecV2(codec{})

// codec encodes the messages above as protobuf does.
type codec struct{}

// Name is the content type's, application/grpc+proto.
func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(request)
	if !ok {
		return nil, fmt.Errorf("%T is not a request to etcd", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(r.append(nil))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(response)
	if !ok {
		return fmt.Errorf("%T is not a response of etcd", v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	return parse(buffer.ReadOnlyData(), r)
}
