package etcd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
)

// raw leaves messages as bytes.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// connect serves every method with answer, which gets the method and the request's bytes.
func connect(t *testing.T, answer func(method string, req []byte) []byte) Conn {
	t.Helper()
	s := grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var req []byte
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		return stream.SendMsg(answer(method, req))
	}))
	l := bufconn.Listen(1 << 16)
	servertest.Serve(t, s, l)
	conn, err := grpc.NewClient("passthrough:///etcd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return Conn{conn}
}

// message makes a protobuf message: of field numbers and values, which are int or string.
func message(fields ...any) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		n := protowire.Number(fields[i].(int))
		switch v := fields[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		case string:
			b = appendBytes(b, n, []byte(v))
		case []byte:
			b = appendBytes(b, n, v)
		}
	}
	return b
}

func TestPutAndGetAreEtcds(t *testing.T) {
	var got []string
	c := connect(t, func(method string, req []byte) []byte {
		got = append(got, fmt.Sprintf("%s %x", method, req))
		head := message(1, 7, 2, 8, 3, 42, 4, 9)
		if method == methodRange {
			kv := message(1, "k", 2, 1, 3, 2, 4, 3, 5, "value")
			return message(1, head, 2, kv, 4, 1)
		}
		return message(1, head)
	})
	kv := serverpb.NewDKVClient(c)
	put, err := kv.Put(t.Context(), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
	if err != nil || put.GetIndex() != 42 {
		t.Errorf("%v, %v", put, err)
	}
	for _, level := range []serverpb.ReadConsistency{serverpb.ReadConsistency_LINEARIZABLE, serverpb.ReadConsistency_SEQUENTIAL} {
		get, err := kv.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: level})
		if err != nil || string(get.GetValue()) != "value" || !get.GetFound() || get.GetIndex() != 42 {
			t.Errorf("%v, %v", get, err)
		}
	}
	want := []string{
		fmt.Sprintf("%s %x", methodPut, message(1, "k", 2, "v")),
		fmt.Sprintf("%s %x", methodRange, message(1, "k")),
		fmt.Sprintf("%s %x", methodRange, message(1, "k", 7, 1)),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestMissingKey(t *testing.T) {
	c := connect(t, func(string, []byte) []byte { return message(1, message(3, 42)) })
	get, err := serverpb.NewDKVClient(c).Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")})
	if err != nil || get.GetFound() || len(get.GetValue()) > 0 {
		t.Errorf("%v, %v", get, err)
	}
}

func TestMultiPutIsCutIntoTransactions(t *testing.T) {
	var ops []int
	c := connect(t, func(method string, req []byte) []byte {
		if method != methodTxn {
			t.Errorf("called %s", method)
		}
		put := message(2, message(2, message(1, "k", 2, "v")))
		ops = append(ops, bytes.Count(req, put))
		return nil
	})
	req := &serverpb.MultiPutRequest{}
	for range 300 {
		req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
	}
	if _, err := serverpb.NewDKVClient(c).MultiPut(t.Context(), req); err != nil || fmt.Sprint(ops) != "[128 128 44]" {
		t.Errorf("%v, %v", ops, err)
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		leader int
		leads  bool
	}{{8, true}, {9, false}, {0, false}} {
		conn := connect(t, func(string, []byte) []byte { return message(1, message(2, 8), 2, "3.6.1", 4, c.leader) })
		if st, err := conn.GetStatus(t.Context()); err != nil || st.Leads != c.leads || st.Version != "3.6.1" || st.Leader != uint64(c.leader) {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

func TestOtherCallsAreUnimplemented(t *testing.T) {
	c := connect(t, func(string, []byte) []byte { return nil })
	if _, err := serverpb.NewDKVClient(c).Increment(t.Context(), &serverpb.IncrementRequest{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// What comes from the network may be broken.
func FuzzParse(f *testing.F) {
	f.Add(message(1, message(3, 42), 2, message(5, "value")))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = parse(b, &rangeResponse{})
		_ = parse(b, &statusResponse{})
	})
}
