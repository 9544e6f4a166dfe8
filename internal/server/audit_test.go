package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/audit"
)

// auditTo makes an audit log in a file.
func auditTo(t *testing.T, required bool) (*audit.Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.New(audit.Options{File: path, Required: required, Common: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // some tests have closed it
	return l, path
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Calls that are rejected because of who made them are audited, whatever they are, by the
// first bytes of their keys and without their values.
func TestRejectedCallsAreAudited(t *testing.T) {
	audits, path := auditTo(t, false)
	r := newRig(t, func(o *Options) { o.Audit = audits })
	denied := status.Error(codes.PermissionDenied, "no grant")
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) { return nil, denied }
	r.service.put = func(context.Context, *serverpb.PutRequest) (*serverpb.PutResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "no token")
	}
	r.service.multiPut = func(context.Context, *serverpb.MultiPutRequest) (*serverpb.PutResponse, error) { return nil, denied }
	r.service.iterate = func(*serverpb.IterateRequest, grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		return denied
	}
	for i, call := range []func() error{
		func() error {
			_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("account/1234567890")})
			return err
		},
		func() error {
			_, err := r.Put(t.Context(), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("the secret")})
			return err
		},
		func() error {
			_, err := r.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{
				{Key: []byte("first"), Value: []byte("the secret")}, {Key: []byte("second")},
			}})
			return err
		},
		func() error {
			stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{KeyPrefix: []byte("p")})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	} {
		if err := call(); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("call %d: %v", i, err)
		}
		// The line is there before the answer.
		if n := strings.Count(read(t, path), "\n"); n != i+1 {
			t.Errorf("%d lines after %d calls", n, i+1)
		}
	}
	content := read(t, path)
	for _, want := range []string{
		`"op":"Get","what":"\"account/12345678\"...","code":"PermissionDenied","error":"no grant"}`,
		`"op":"Put","what":"\"k\"","code":"Unauthenticated","error":"no token"}`,
		`"op":"MultiPut","what":"\"first\"","code":"PermissionDenied","error":"no grant"}`,
		`"op":"Iterate","what":"\"p\"","code":"PermissionDenied","error":"no grant"}`,
	} {
		if !strings.Contains(content, want) {
			t.Errorf("no %s in\n%s", want, content)
		}
	}
	if strings.Contains(content, "secret") {
		t.Errorf("a value is in the audit log:\n%s", content)
	}
}

// Calls for keys that succeed, or fail for other reasons, are not audited.
func TestOtherCallsAreNotAudited(t *testing.T) {
	audits, path := auditTo(t, true)
	r := newRig(t, func(o *Options) { o.Audit = audits })
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
	if _, err := r.Put(t.Context(), &serverpb.PutRequest{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	if content := read(t, path); content != "" {
		t.Errorf("audited %s", content)
	}
}

// An administrative call that the audit log cannot hold is not made, if it must be in it.
func TestCallsThatCannotBeAuditedAreRejected(t *testing.T) {
	audits, path := auditTo(t, true)
	r := newRig(t, func(o *Options) { o.Audit = audits })
	node := serverpb.NewDKVNodeClient(r.conn)
	_, err := node.PauseWrites(t.Context(), &emptypb.Empty{})
	wantCode(t, err, codes.FailedPrecondition, "not now")
	if content := read(t, path); strings.Count(content, "\n") != 2 || !strings.Contains(content, `"phase":"begin"`) || !strings.Contains(content, `"phase":"end","code":"FailedPrecondition"`) {
		t.Errorf("audited %s", content)
	}
	if err := audits.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = node.PauseWrites(t.Context(), &emptypb.Empty{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "audit-required") {
		t.Errorf("%v", err)
	}
	if got := r.hits(limitAudit); got != 1 {
		t.Errorf("%v hits of the limit", got)
	}
}
