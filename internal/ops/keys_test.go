package ops

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops/keys"
)

// pairs is a service of keys that is a slice, in order.
type pairs struct {
	serverpb.UnimplementedDKVServer
	held []*serverpb.KVPair
	// got is the last write.
	got any
	// fails is what a put ends with.
	fails error
}

func (p *pairs) Get(_ context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	for _, pair := range p.held {
		if string(pair.Key) == string(r.GetKey()) {
			return &serverpb.GetResponse{Found: true, Value: pair.Value, ExpireTS: pair.ExpireTS, Index: 7}, nil
		}
	}
	return &serverpb.GetResponse{Index: 7}, nil
}

func (p *pairs) Iterate(r *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	var out []*serverpb.KVPair
	for _, pair := range p.held {
		if strings.HasPrefix(string(pair.Key), string(r.GetKeyPrefix())) && string(pair.Key) >= string(r.GetStartKey()) {
			out = append(out, pair)
		}
	}
	return stream.Send(&serverpb.IterateResponse{Pairs: out})
}

func (p *pairs) Put(_ context.Context, r *serverpb.PutRequest) (*serverpb.PutResponse, error) {
	p.got = r
	return &serverpb.PutResponse{Index: 8, Acked: max(serverpb.AckLevel_ACK_SYNC, r.GetAck())}, p.fails
}

func (p *pairs) CompareAndSet(_ context.Context, r *serverpb.CompareAndSetRequest) (*serverpb.CompareAndSetResponse, error) {
	return &serverpb.CompareAndSetResponse{Updated: string(r.GetOldValue()) == "old", Index: 9}, nil
}

func (p *pairs) Delete(_ context.Context, r *serverpb.DeleteRequest) (*serverpb.DeleteResponse, error) {
	p.got = r
	return &serverpb.DeleteResponse{Index: 10}, nil
}

// withKeys has a server with keys, and callers with the roles read and write below "a".
func withKeys(t *testing.T) (*Server, *pairs) {
	t.Helper()
	by := accesstest.New()
	by.Grant("reader", auth.Grant{Role: auth.Read, Prefixes: [][]byte{[]byte("a")}})
	by.Grant("writer", auth.Grant{Role: auth.Write, Prefixes: [][]byte{[]byte("a")}})
	p := &pairs{held: []*serverpb.KVPair{
		{Key: []byte("a\x00\xff"), Value: []byte("<script>alert(1)</script>")}, {Key: []byte("a2"), Value: []byte("v"), ExpireTS: 99}, {Key: []byte("a3")}, {Key: []byte("b")},
	}}
	o := options()
	o.Access = access.NewGuard(access.Options{Authenticator: by, Database: "db"})
	o.StatusOf = func(err error) int {
		return map[kv.Kind]int{kv.Invalid: 400, kv.Denied: 403, kv.Exhausted: 507, kv.Unavailable: 503}[kv.KindOf(err)]
	}
	o.Keys = keys.New(keys.Options{
		KV:      func() (serverpb.DKVServer, error) { return p, nil },
		VBucket: func([]byte) string { return "5" },
		Allow:   Allow(o.Access),
	})
	return newServer(t, o), p
}

// TestKeysOverHTTP: what is answered, and that the roles are those of gRPC.
func TestKeysOverHTTP(t *testing.T) {
	s, _ := withKeys(t)
	for _, c := range []struct {
		method, path, body, by string
		code                   int
		text                   string
	}{
		{"GET", "/data/get?key=a2", "", "reader", 200, `"value":"dg==","size":1,"expires":99,"index":7`},
		{"GET", "/data/get?encoding=hex&key=61+00+ff", "", "reader", 200, `"key":"YQD/","vbucket":"5","found":true`},
		{"GET", "/data/get?encoding=base64&key=YQD/&level=sequential", "", "reader", 200, `"found":true`},
		{"GET", "/data/get?key=a9", "", "reader", 200, `"found":false`},
		{"GET", "/data/get?key=b", "", "reader", 403, "the role read"},
		{"GET", "/data/get?key=a2", "", "", 401, "token"},
		{"GET", "/data/get?key=a2", "", "writer", 403, "the role read"},
		{"GET", "/data/get?encoding=hex&key=a", "", "reader", 400, "key is not hex"},
		{"GET", "/data/get?encoding=rot13&key=a", "", "reader", 400, "encoding is text, hex or base64"},
		{"GET", "/data/get?key=a&level=strong", "", "reader", 400, "level is linearizable or sequential"},
		{"POST", "/data/get?key=a", "", "reader", 405, "GET"},
		{"GET", "/data/list?prefix=a&limit=2", "", "reader", 200, `"next":"YTM="`},
		{"GET", "/data/list?prefix=a&start=a3", "", "reader", 200, `{"keys":[{"key":"YTM=","vbucket":"5","size":0,"expires":0,"preview":""}]}`},
		{"GET", "/data/list?prefix=a&start=a9", "", "reader", 200, `{"keys":[]}`},
		{"GET", "/data/list", "", "reader", 403, "the role read"},
		{"GET", "/data/list?prefix=a&limit=501", "", "reader", 400, "limit is a number from 1 to 500"},
		{"POST", "/data/put", `{"key":"a1","value":"v"}`, "writer", 200, `"updated":true,"vbucket":"5","index":8,"acked":"sync"`},
		{"POST", "/data/put", `{"key":"a1","value":"v"}`, "reader", 403, "the role write"},
		{"POST", "/data/put", `{"key":"b1","value":"v"}`, "writer", 403, "the role write"},
		{"POST", "/data/put", `{"key":"a1","ack":"all"}`, "writer", 200, `"acked":"all"`},
		{"POST", "/data/put", `{"key":"a1","ack":"most"}`, "writer", 400, "ack is async, semi_sync, sync or all, not"},
		{"POST", "/data/put", `{"key":"a1","ack":"default"}`, "writer", 400, "ack is async, semi_sync, sync or all, not"},
		{"POST", "/data/put", `{`, "writer", 400, "the body must be"},
		{"POST", "/data/put", `{"key":"a1","ttl":10}`, "writer", 400, `unknown field \"ttl\"`},
		{"POST", "/data/put", `{"key":"a1"}{"key":"a2"}`, "writer", 400, "one document"},
		{"POST", "/data/cas", `{"key":"a1","old":"old","value":"v"}`, "writer", 200, `"updated":true`},
		{"POST", "/data/cas", `{"key":"6131","old":"6f6c64","value":"76","encoding":"hex"}`, "writer", 200, `"updated":true`},
		{"POST", "/data/cas", `{"key":"a1","old":"other","value":"v"}`, "writer", 200, `"updated":false`},
		{"POST", "/data/delete", `{"key":"a1"}`, "writer", 200, `"acked":"async"`},
		{"POST", "/data/delete", `{"key":"b1"}`, "writer", 403, "the role write"},
	} {
		r := call(s, c.method, c.path, c.body, func(r *http.Request) {
			if c.by != "" {
				bearer(c.by)(r)
			}
		})
		if text := strings.ReplaceAll(compact(t, r.Body.String()), `\u003c`, "<"); r.Code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s %s %s by %q: %d %s", c.method, c.path, c.body, c.by, r.Code, text)
		}
	}
}

// TestNothingElseIsStoredThanWasSent: decoding JSON replaces what is no Unicode.
func TestNothingElseIsStoredThanWasSent(t *testing.T) {
	s, p := withKeys(t)
	for body, want := range map[string]string{
		"{\"key\":\"a\",\"value\":\"caf\xe9\"}":                 "",
		"{\"key\":\"a\xff\",\"value\":\"v\"}":                   "",
		`{"key":"a","value":"half \ud83d of a pair"}`:           "",
		`{"key":"a","value":"whole \ud83d\ude00"}`:              "whole \U0001f600",
		"{\"key\":\"a\",\"value\":\"sent as \ufffd\"}":          "sent as \ufffd",
		`{"key":"a","value":"sent as \uFFFD"}`:                  "sent as \ufffd",
		`{"key":"6101","value":"ff00","encoding":"hex"}`:        "\xff\x00",
		"{\"key\":\"a\",\"value\":\"sent as \ufffd and \xe9\"}": "",
	} {
		p.got = nil
		r := call(s, "POST", "/data/put", body, bearer("writer"))
		put, stored := p.got.(*serverpb.PutRequest)
		switch {
		case want == "" && (r.Code != 400 || stored || !strings.Contains(errorText(t, r), "base64")):
			t.Errorf("%q: %d %s, stored %v", body, r.Code, r.Body, put)
		case want != "" && (r.Code != 200 || string(put.GetValue()) != want):
			t.Errorf("%q: %d %s, stored %v", body, r.Code, r.Body, put)
		}
	}
}

// TestKeysAreNotForPagesOfOtherSites: neither to read, under a name that resolves to this
// node, nor to write.
func TestKeysAreNotForPagesOfOtherSites(t *testing.T) {
	o := options()
	p := new(pairs)
	o.Keys = keys.New(keys.Options{KV: func() (serverpb.DKVServer, error) { return p, nil }, VBucket: func([]byte) string { return "0" }, Allow: Allow(nil)})
	s := newServer(t, o)
	if r := call(s, "GET", "/data/get?key=a", ""); r.Code != 200 {
		t.Fatalf("%d %s", r.Code, r.Body)
	}
	for name, change := range map[string]func(*http.Request){
		"a rebound name":   func(r *http.Request) { r.Host = "evil.example:8081" },
		"a page":           header("Sec-Fetch-Site", "same-origin"),
		"another host":     func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" },
		"through a proxy":  header("X-Forwarded-For", "127.0.0.1"),
		"an old browser's": header("Origin", "null"),
	} {
		for method, path := range map[string]string{"GET": "/data/get?key=a", "POST": "/data/put"} {
			if r := call(s, method, path, `{"key":"a"}`, change); r.Code != http.StatusForbidden || p.got != nil {
				t.Errorf("%s, %s: %d %s", name, method, r.Code, r.Body)
			}
		}
	}
}

// TestUnknownOutcomeIsSaid: a person must not take a write for failed that may be applied.
func TestUnknownOutcomeIsSaid(t *testing.T) {
	s, p := withKeys(t)
	p.fails = kv.UnknownOutcome(kv.Unavailable, errors.New("the leader is gone"))
	if r := call(s, "POST", "/data/put", `{"key":"a"}`, bearer("writer")); r.Code != 503 || !strings.Contains(errorText(t, r), "may be applied") && !strings.Contains(errorText(t, r), "may have been applied") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

// TestLimitsSayWhenToTryAgain: what the server of keys rejects for now is no full disk.
func TestLimitsSayWhenToTryAgain(t *testing.T) {
	s, p := withKeys(t)
	p.fails = &kv.Error{Kind: kv.Exhausted, RetryAfter: 1500 * time.Millisecond, Err: errors.New("too many requests")}
	if r := call(s, "POST", "/data/put", `{"key":"a"}`, bearer("writer")); r.Code != http.StatusTooManyRequests || r.Header().Get("Retry-After") != "2" {
		t.Errorf("%d %v", r.Code, r.Header())
	}
	p.fails = kv.Errorf(kv.Exhausted, "the disk is full")
	if r := call(s, "POST", "/data/put", `{"key":"a"}`, bearer("writer")); r.Code != http.StatusInsufficientStorage {
		t.Errorf("%d", r.Code)
	}
}
