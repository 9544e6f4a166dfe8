package attack

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// Bug begins the answers that no call may get.
const Bug = "bug: "

// meant are the methods that do harm if they do what they are for, which only
// authentication can prevent.
var meant = map[protoreflect.Name]bool{
	"Restore": true, "AddNode": true, "RemoveNode": true, "TransferLeader": true, "StepDown": true, "ReleaseDatabase": true,
	"PauseWrites": true, "SetClock": true, "Resync": true, "SetTiming": true, "Promote": true, "Rejoin": true, "DropAside": true,
	"ClaimRecord": true, "FinishUpgrade": true, "InjectFault": true, "SetLogLevel": true,
	"SealDatabase": true, "Yield": true, "SealCopies": true, "BecomeMaster": true, "Renew": true, "ChangeRecord": true, "Claim": true,
}

var fields = []Attack{
	{"extreme-fields", every, func(ctx context.Context, e *Enemy) {
		all, conn := harmless(), e.client(ctx)
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			e.extreme(ctx, conn, all[rand.IntN(len(all))])
			return true
		})
	}},
}

// harmless are the methods of all services, except for those that are meant to do harm.
func harmless() (all []protoreflect.MethodDescriptor) {
	for _, file := range []protoreflect.FileDescriptor{
		serverpb.File_api_api_proto, serverpb.File_api_admin_proto, peerpb.File_api_peer_proto, peerpb.File_api_standby_proto,
	} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				if m := methods.Get(j); !meant[m.Name()] {
					all = append(all, m)
				}
			}
		}
	}
	return all
}

// extreme calls a method with a message of which every field is anything.
func (e *Enemy) extreme(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor) {
	request, answer := encoded(extremes(m.Input(), 0)), encoded(nil)
	full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, full, grpc.ForceCodec(bare{}))
	for i := 0; err == nil && i < 3; i++ {
		if i == 0 || m.IsStreamingClient() && i == 1 {
			err = stream.SendMsg(&request)
		}
		if err == nil && !m.IsStreamingClient() && i == 0 {
			err = stream.CloseSend()
		}
		if err == nil || err == io.EOF {
			err = stream.RecvMsg(&answer)
		}
	}
	if err == io.EOF {
		err = nil
	}
	code := status.Code(err)
	e.count(code.String(), 1)
	if code == codes.Internal || code == codes.Unknown || code == codes.DataLoss {
		e.count(fmt.Sprintf("%s%s answers %.300v to %.100x", Bug, m.Name(), err, []byte(request)), 1)
	}
}

// encoded is a message on the wire, and bare the codec of such messages.
type encoded []byte

type bare struct{}

// Marshal implements encoding.Codec.
func (bare) Marshal(v any) ([]byte, error) { return *v.(*encoded), nil }

// Unmarshal implements encoding.Codec.
func (bare) Unmarshal(data []byte, v any) error {
	*v.(*encoded) = data
	return nil
}

// Name implements encoding.Codec.
func (bare) Name() string { return "proto" }

// extremes encodes a message whose fields have values at the limits of their types, among
// them text that is not UTF-8.
func extremes(of protoreflect.MessageDescriptor, depth int) (out []byte) {
	for i := range of.Fields().Len() {
		field := of.Fields().Get(i)
		if rand.IntN(3) == 0 {
			continue
		}
		n := 1
		if field.Cardinality() == protoreflect.Repeated {
			n = []int{0, 1, 2, 3, 500}[rand.IntN(5)]
		}
		for range n {
			out = extremeField(out, field, depth)
		}
	}
	return out
}

func extremeField(out []byte, field protoreflect.FieldDescriptor, depth int) []byte {
	numbers := []uint64{0, 1, 2, 7, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 53, 1<<63 - 1, 1 << 63, math.MaxUint64, rand.Uint64()}
	n := numbers[rand.IntN(len(numbers))]
	tag := func(kind protowire.Type) []byte { return protowire.AppendTag(out, field.Number(), kind) }
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if depth > 2 {
			return out
		}
		return protowire.AppendBytes(tag(protowire.BytesType), extremes(field.Message(), depth+1))
	case protoreflect.StringKind, protoreflect.BytesKind:
		texts := []string{
			"", "default", "0", "-1", "x", "\x00", "a\x00b", "\xff\xfe", "\n\x1b[31m", "../..", "18446744073709551616", "127.66.6.6:1", "http://127.66.6.6:1",
			junkText(70), junkText(5000), string(junk(16)), "hostile/extreme",
		}
		return protowire.AppendBytes(tag(protowire.BytesType), []byte(texts[rand.IntN(len(texts))]))
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.AppendFixed64(tag(protowire.Fixed64Type), n)
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.AppendFixed32(tag(protowire.Fixed32Type), uint32(n))
	default:
		return protowire.AppendVarint(tag(protowire.VarintType), n)
	}
}
