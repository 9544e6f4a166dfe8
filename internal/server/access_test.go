package server

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/testkit"
)

// as returns a context whose calls show a token; marks are further metadata.
func as(t *testing.T, token string, marks ...string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), append([]string{"authorization", "Bearer " + token}, marks...)...)
}

func grant(role auth.Role, prefixes ...string) auth.Grant {
	g := auth.Grant{Role: role}
	for _, p := range prefixes {
		g.Prefixes = append(g.Prefixes, []byte(p))
	}
	return g
}

// newGuarded returns a rig whose calls need identities.
func newGuarded(t *testing.T, changes ...func(*Options)) (*rig, *accesstest.Authenticator) {
	a := accesstest.New()
	r := newRig(t, append(changes, func(o *Options) { o.Access = access.NewGuard(access.Options{Authenticator: a, Database: "db"}) })...)
	return r, a
}

func wantDenied(t *testing.T, what string, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%s: %v, want %v", what, err, code)
	}
}

// TestCallsNeedTheirRole: the caller is decided before the request, its keys before the
// handler.
func TestCallsNeedTheirRole(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("reader", grant(auth.Read, "a/"))
	var served atomic.Int32
	r.service.get = func(ctx context.Context, req *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		served.Add(1)
		if id := auth.FromContext(ctx); id == nil || id.Name != "reader" {
			t.Errorf("the handler sees %+v", id)
		}
		return &serverpb.GetResponse{}, nil
	}
	get := func(ctx context.Context, key string) error {
		_, err := r.Get(ctx, &serverpb.GetRequest{Key: []byte(key)})
		return err
	}
	if err := get(as(t, "reader"), "a/1"); err != nil || served.Load() != 1 {
		t.Error(err)
	}
	wantDenied(t, "another key", get(as(t, "reader"), "b"), codes.PermissionDenied)
	wantDenied(t, "a wrong token", get(as(t, "guessed"), "a/1"), codes.Unauthenticated)
	wantDenied(t, "no token", get(t.Context(), "a/1"), codes.Unauthenticated)
	wantDenied(t, "two tokens", get(as(t, "reader", "authorization", "Bearer reader"), "a/1"), codes.Unauthenticated)
	wantDenied(t, "a mark", get(as(t, "reader", "dkv-forwarded", "1"), "a/1"), codes.PermissionDenied)
	wantDenied(t, "the registry's mark", get(as(t, "reader", "dkv-discovery-forwarded", "1"), "a/1"), codes.PermissionDenied)
	wantDenied(t, "an identity", get(as(t, "reader", "dkv-identity", "reader"), "a/1"), codes.PermissionDenied)
	wantDenied(t, "grants", get(as(t, "reader", "dkv-grants", "x"), "a/1"), codes.PermissionDenied)
	_, err := r.Put(as(t, "reader"), &serverpb.PutRequest{Key: []byte("a/1")})
	wantDenied(t, "another role", err, codes.PermissionDenied)
	_, err = serverpb.NewDKVNodeClient(r.conn).PauseWrites(as(t, "reader"), &emptypb.Empty{})
	wantDenied(t, "administration", err, codes.PermissionDenied)
	if n := served.Load(); n != 1 {
		t.Errorf("the handler has served %d calls that are not granted", n-1)
	}
	if err := get(as(t, accesstest.NodeToken, "dkv-forwarded", "1", "dkv-identity", "reader"), "a/1"); err != nil {
		t.Errorf("a forwarded call: %v", err)
	}
	wantDenied(t, "a forwarded call for another key",
		get(as(t, accesstest.NodeToken, "dkv-forwarded", "1", "dkv-identity", "reader"), "b"), codes.PermissionDenied)
}

// TestRejectedCallsAreNotRead: a call without the role costs no decoding.
func TestRejectedCallsAreNotRead(t *testing.T) {
	r, _ := newGuarded(t)
	var answer []byte
	err := r.conn.Invoke(t.Context(), serverpb.DKV_Get_FullMethodName, []byte{0xff, 0xff}, &answer, grpc.ForceCodec(rawCodec{}))
	wantDenied(t, "a broken request without credentials", err, codes.Unauthenticated)
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (rawCodec) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (rawCodec) Name() string                    { return "proto" }

// TestUnknownMethodsAreNotShown: what exists is not told to a caller without any right, and
// health checks need none.
func TestUnknownMethodsAreNotShown(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("reader", grant(auth.Read))
	call := func(ctx context.Context) error {
		return r.conn.Invoke(ctx, "/dkv.serverpb.DKV/Unheard", &emptypb.Empty{}, &emptypb.Empty{})
	}
	wantDenied(t, "without credentials", call(t.Context()), codes.Unauthenticated)
	wantDenied(t, "with a grant", call(as(t, "reader")), codes.Unimplemented)
	if _, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}

// TestStreamsNeedTheirRole: a range is decided before the handler sees the request.
func TestStreamsNeedTheirRole(t *testing.T) {
	r, a := newGuarded(t)
	a.Grant("reader", grant(auth.Read, "a/"))
	iterate := func(ctx context.Context, prefix string) error {
		s, err := r.Iterate(ctx, &serverpb.IterateRequest{KeyPrefix: []byte(prefix)})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	if err := iterate(as(t, "reader"), "a/"); err != nil {
		t.Error(err)
	}
	wantDenied(t, "more than the prefix", iterate(as(t, "reader"), "a"), codes.PermissionDenied)
	wantDenied(t, "no token", iterate(t.Context(), "a/"), codes.Unauthenticated)
}

// TestStreamsEndWithTheirGrants: a watch ends with PermissionDenied when its keys are no
// longer granted, and goes on when something else has changed.
func TestStreamsEndWithTheirGrants(t *testing.T) {
	r, a := newGuarded(t, withReplication(&replication{}))
	a.Grant("watcher", grant(auth.Watch, "a/", "b/"))
	watch := func(prefix string) serverpb.DKVReplication_WatchChangesClient {
		s, err := serverpb.NewDKVReplicationClient(r.conn).WatchChanges(as(t, "watcher"), &serverpb.WatchChangesRequest{KeyPrefix: []byte(prefix)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	kept, ended := watch("a/"), watch("b/")
	a.Grant("watcher", grant(auth.Watch, "a/"))
	_, err := ended.Recv()
	wantDenied(t, "a watch whose keys are no longer granted", err, codes.PermissionDenied)
	if err := kept.Context().Err(); err != nil {
		t.Error(err)
	}
	a.Remove("watcher")
	_, err = kept.Recv()
	wantDenied(t, "a watch whose identity was removed", err, codes.PermissionDenied)
}

// TestProtectedNode: without authentication, other hosts are refused unless the node is
// opened or they are members; health checks are answered.
func TestProtectedNode(t *testing.T) {
	for _, c := range []struct {
		exposure access.Exposure
		host     string
		member   bool
		code     codes.Code
	}{
		{access.Protected, "127.0.0.1", false, codes.OK},
		{access.Protected, "192.0.2.1", false, codes.PermissionDenied},
		{access.Protected, "192.0.2.1", true, codes.OK},
		{access.ExposedData, "192.0.2.1", false, codes.OK},
	} {
		r := newRig(t, from(c.host), func(o *Options) {
			o.Access = access.NewGuard(access.Options{Exposure: c.exposure, Member: func(netip.Addr) bool { return c.member }})
		})
		_, err := r.Get(t.Context(), &serverpb.GetRequest{})
		if status.Code(err) != c.code || err != nil && !strings.Contains(err.Error(), "allow-insecure: data") {
			t.Errorf("%+v: %v", c, err)
		}
		s, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		wantDenied(t, "a stream", err, c.code)
		if _, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
	}
}

// TestReflectionCanBeSwitchedOff, and without authentication it answers this machine only.
func TestReflectionCanBeSwitchedOff(t *testing.T) {
	for _, c := range []struct {
		served bool
		host   string
		code   codes.Code
	}{
		{true, "127.0.0.1", codes.OK},
		{false, "127.0.0.1", codes.Unimplemented},
		{true, "192.0.2.1", codes.PermissionDenied},
	} {
		r := newRig(t, from(c.host), func(o *Options) {
			o.Reflection, o.Access = c.served, access.NewGuard(access.Options{Exposure: access.Exposed})
		})
		s, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		_, err = s.Recv()
		wantDenied(t, c.host, err, c.code)
	}
}

// TestOpenNodesAuthorizeWithoutAllocating: a node without authentication costs a call
// nothing.
func TestOpenNodesAuthorizeWithoutAllocating(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Access = access.NewGuard(access.Options{Exposure: access.Protected}) })
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
		t.Fatal(err)
	}
	c := r.calls
	testkit.Eventually(t, "a connection", func() bool { return len(c.conns()) == 1 })
	k := &call{Context: t.Context(), calls: c, conn: c.conns()[0]}
	m, req := c.methods[serverpb.DKV_Get_FullMethodName], &serverpb.GetRequest{Key: []byte("k")}
	if n := testing.AllocsPerRun(100, func() {
		if k.authorize(m) != nil || k.permit(req) != nil || k.identity != nil || auth.FromContext(k) != nil {
			t.Error("a caller on this machine is rejected, or has an identity")
		}
	}); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
