package mastertest

import (
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Patience is a deadline that is not expected to be met.
const Patience = testkit.Patience

// Reason is the machine-readable reason of an error; empty if it has none.
func Reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "dkv" {
			return info.GetReason()
		}
	}
	return ""
}

// PutOf is a request to set a key.
func PutOf(key, value string) *serverpb.PutRequest {
	return &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

// Linearizable is a request to read a key from its owner.
func Linearizable(key string) *serverpb.GetRequest {
	return &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
}

// MustPut sets a key at a node.
func MustPut(t testing.TB, n serverpb.DKVClient, key, value string) *serverpb.PutResponse {
	t.Helper()
	resp, err := n.Put(testkit.Within(t, Patience), PutOf(key, value))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// MustGet reads a key at a node, and checks its value.
func MustGet(t testing.TB, n serverpb.DKVClient, key, want string) {
	t.Helper()
	resp, err := n.Get(testkit.Within(t, Patience), Linearizable(key))
	if err != nil || string(resp.GetValue()) != want {
		t.Errorf("%s: %q, %v; want %q", key, resp.GetValue(), err, want)
	}
}

// Keys returns n keys.
func Keys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "key-%05d", i)
	}
	return out
}

// WantStatus checks the error that a client gets, code and text.
func WantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if got := status.Convert(err); got.Code() != code || got.Message() != text {
		t.Errorf("%v %q\nwant %v %q", got.Code(), got.Message(), code, text)
	}
}
