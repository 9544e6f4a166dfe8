package app

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAccessLogHasEveryRequest: with who made it and what it was about, whatever it came to, and without values.
func TestAccessLogHasEveryRequest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	grpc, _ := serve(t, "--access-log", path, "--node-name", "n1")
	client := serverpb.NewDKVClient(connect(t, grpc))
	for i, c := range []struct {
		call        func()
		want, lacks string
	}{
		{func() {
			_, err := client.Put(t.Context(), &serverpb.PutRequest{Key: []byte("order/1"), Value: []byte("secret"), RequestId: &serverpb.RequestID{ClientId: 0xa1, Sequence: 7}, Ack: serverpb.AckLevel_ACK_ASYNC})
			if err != nil {
				t.Error(err)
			}
		}, `node=n1 database=default op=Put code=OK took=\S+ peer=127\.0\.0\.1:\d+ principal=open vbucket=default key="\\"order/1\\"" request_id=a1-7 ack_level=async request_bytes=\d+ response_bytes=\d+$`, "read_level"},
		{func() {
			_, err := client.Get(t.Context(), &serverpb.GetRequest{Key: []byte("order/1"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			if err != nil {
				t.Error(err)
			}
		}, `op=Get code=OK .* read_level=linearizable `, "ack_level|request_id"},
		{func() {
			if _, err := client.Get(t.Context(), &serverpb.GetRequest{}); err == nil {
				t.Error("a get without a key succeeds")
			}
		}, `op=Get code=InvalidArgument `, "ack_level|request_id"},
		{func() {
			_, err := client.MultiPut(t.Context(), &serverpb.MultiPutRequest{PutRequest: []*serverpb.PutRequest{
				{Key: []byte("order/2"), Value: []byte("secret")}, {Key: []byte("order/3")},
			}})
			if err != nil {
				t.Error(err)
			}
		}, `op=MultiPut code=OK .* vbucket=default key="\\"order/2\\"" `, "read_level|request_id"},
		{func() {
			stream, err := client.Iterate(t.Context(), &serverpb.IterateRequest{KeyPrefix: []byte("order/")})
			for err == nil {
				_, err = stream.Recv()
			}
		}, `op=Iterate code=OK .*key="\\"order/\\"" .*request_bytes=\d+$`, "response_bytes"},
	} {
		c.call()
		var lines []string
		testkit.Eventually(t, "the line is there", func() bool {
			text, _ := os.ReadFile(path)
			lines = strings.Split(string(text), "\n")
			return len(lines) == i+2
		})
		if !regexp.MustCompile(c.want).MatchString(lines[i]) || regexp.MustCompile(c.lacks+"|secret").MatchString(lines[i]) {
			t.Errorf("%s\nlacks %s, or has %s", lines[i], c.want, c.lacks)
		}
	}
}

// TestAccessLogHasRequestsByHTTP: one line each, with the key of those for keys, and none for probes.
func TestAccessLogHasRequestsByHTTP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	_, at := serve(t, "--access-log", path)
	request := func(method, path, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	for i, c := range []struct{ method, path, body, want string }{
		{"POST", "/data/put", `{"key":"order/1","value":"secret"}`, `op="POST /data/put" code=OK took=\S+ peer=127\.0\.0\.1:\d+ principal=open vbucket=default key="\\"order/1\\"" .*request_bytes=34 response_bytes=\d+$`},
		{"GET", "/health?x=secret", "", `op="GET /health" code=OK .* request_bytes=0 response_bytes=[1-9]\d+$`},
		{"GET", "/nothing", "", `op="GET /nothing" code=NotFound `},
		{"GET", "/", "", `op="GET /" code=OK `},
		{"GET", "/" + strings.Repeat("x", 1<<12), "", `op="GET /x{187}\.\.\. \(3909 bytes left out\)" code=NotFound `},
		{"POST", "/data/put", `{"key"`, `op="POST /data/put" code=InvalidArgument `},
		{"GET", "/data/list?prefix=order/", "", `op="GET /data/list" code=OK .*key="\\"order/\\"" `},
	} {
		for _, probe := range []string{"/livez", "/readyz", "/health/quick"} {
			request(http.MethodGet, probe, "")
		}
		request(c.method, c.path, c.body)
		var lines []string
		testkit.Eventually(t, "the line is there", func() bool {
			text, _ := os.ReadFile(path)
			lines = strings.Split(string(text), "\n")
			return len(lines) == i+2
		})
		if !regexp.MustCompile(c.want).MatchString(lines[i]) || strings.Contains(lines[i], "secret") {
			t.Errorf("%s\nlacks %s, or has a secret", lines[i], c.want)
		}
	}
}
