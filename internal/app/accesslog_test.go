package app

import (
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
