package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestMetricsOfEnginesAndLogs: what a write and a read do to the engine and to the Raft log shows.
func TestMetricsOfEnginesAndLogs(t *testing.T) {
	grpc, at := serve(t, "--role", "master", "--nexus-node-url", "http://"+testkit.Address(t), "--disable-discovery-client")
	client := serverpb.NewDKVClient(connect(t, grpc))
	testkit.Eventually(t, "it takes a write", func() bool {
		_, err := client.Put(context.Background(), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
		return err == nil
	})
	text := get(t, "http://"+at+"/metrics")
	for _, sample := range []string{
		`dkv_node_role{database="default",role="master"} 1`,
		`dkv_vbucket_mode{database="default",mode="raft",vbucket="default"} 1`,
		`dkv_storage_write_stopped{database="default",vbucket="default"} 0`,
		`dkv_storage_filter_reads_total{database="default",result="found",vbucket="default"} `,
		`dkv_storage_sync_duration_seconds_bucket{database="default",le="+Inf"} `,
		`dkv_under_replicated_vbuckets{database="default"} 0`,
		`dkv_raft_sent_bytes_total{database="default"} 0`,
	} {
		if !strings.Contains(text, "\n"+sample) {
			t.Errorf("no %s", sample)
		}
	}
	for _, positive := range []string{
		"dkv_raft_log_sync_duration_seconds_count", "dkv_raft_log_disk_bytes", "dkv_raft_log_written_bytes_total",
		"dkv_raft_log_entries", "dkv_raft_log_bytes", "dkv_raft_log_first_index", "dkv_storage_disk_bytes",
	} {
		if !regexp.MustCompile(`(?m)^` + positive + `\{[^}]*\} [1-9]`).MatchString(text) {
			t.Errorf("%s is not positive", positive)
		}
	}
}

// TestMetricsOfForwardedReads: a slave counts the linearizable reads that it has sent to the leader.
func TestMetricsOfForwardedReads(t *testing.T) {
	master, _ := serve(t)
	grpc, at := serve(t, "--role", "slave", "--disable-discovery-client", "--repl-master-addr", master)
	const forwarded = `dkv_lease_reads_total{database="default",path="forward",vbucket=""} `
	client := serverpb.NewDKVClient(connect(t, grpc))
	testkit.Eventually(t, "the leader answers", func() bool {
		_, err := client.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k"), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		return err == nil
	})
	if text := get(t, "http://"+at+"/metrics"); !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(forwarded) + `[1-9]`).MatchString(text) {
		t.Errorf("it does not have\n%s1", forwarded)
	}
}

// TestMetricsAreSentToStatsd: a node sends its metrics to statsd-addr by itself.
func TestMetricsAreSentToStatsd(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	serve(t, "--statsd-addr", conn.LocalAddr().String())
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	for text := ""; !strings.Contains(text, "\ndkv_disk_total_bytes.database.default:"); {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		text += string(buf[:n])
	}
}

// TestKeysOverHTTPAreRequestsLikeOthers: they are counted, and have the limits of gRPC.
func TestKeysOverHTTPAreRequestsLikeOthers(t *testing.T) {
	_, at := serve(t, "--max-value-size", "100")
	post := func(body string) (int, string) {
		t.Helper()
		resp, err := http.Post("http://"+at+"/data/put", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for i := range 4 {
		if code, text := post(fmt.Sprintf(`{"key": "k%d", "value": "v"}`, i)); code != http.StatusOK {
			t.Fatal(code, text)
		}
	}
	if code, text := post(`{"key": "k", "value": "` + strings.Repeat("x", 101) + `"}`); code != http.StatusBadRequest || !strings.Contains(text, "max-value-size") {
		t.Error(code, text)
	}
	if got := get(t, "http://"+at+"/data/get?key=k1"); !strings.Contains(got, `"value": "dg=="`) {
		t.Error(got)
	}
	if got := get(t, "http://"+at+"/data/list?prefix=k&limit=2"); !strings.Contains(got, `"next"`) {
		t.Error(got)
	}
	text := get(t, "http://"+at+"/metrics")
	for _, want := range []string{`{code="OK",op="Put"} 4`, `{code="InvalidArgument",op="Put"} 1`, `{code="OK",op="Get"} 1`, `{code="OK",op="Iterate"} 1`} {
		if !strings.Contains(text, "dkv_requests_total"+want+"\n") {
			t.Errorf("no dkv_requests_total%s", want)
		}
	}
}
