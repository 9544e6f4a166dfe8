package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// constants reads the table of docs/operate/capacity.md, in bytes if they have a unit.
func constants(t *testing.T) map[string]float64 {
	t.Helper()
	raw, err := os.ReadFile("../../docs/operate/capacity.md")
	if err != nil {
		t.Fatal(err)
	}
	units := map[string]float64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
	out := make(map[string]float64)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([0-9.]+) ?([KMiB]*) \\|").FindAllStringSubmatch(string(raw), -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		out[m[1]] = n * units[m[3]]
	}
	return out
}

// atMost checks a measured value against what the documentation says.
func atMost(t *testing.T, what string, measured, documented float64) {
	t.Helper()
	t.Logf("%s: %.0f measured, at most %.0f documented", what, measured, documented)
	if documented == 0 || measured > documented {
		t.Errorf("%s: %.0f measured, docs/operate/capacity.md allows %.0f", what, measured, documented)
	}
}

// TestCapacityConstants measures what the documentation gives for planning.
func TestCapacityConstants(t *testing.T) {
	c := constants(t)
	const buffer = 4 << 20
	const pairs, size, batch = 20000, 8 + 512, 20
	master := []string{"--role", "master", "--disable-discovery-client", "--write-buffer-size", fmt.Sprint(buffer), "--nexus-node-url"}

	one := newFixture(t, t.TempDir(), append(master, "http://"+testkit.Address(t))...)
	empty := one.resident()
	atMost(t, "memory of a node", empty, c["process"])
	files := float64(one.files())

	dials := 200
	for range dials {
		one.dial()
	}
	atMost(t, "memory of connections", one.resident()-empty, float64(dials)*c["connection"])

	random := rand.NewChaCha8([32]byte{1})
	for at := 0; at < pairs; at += batch {
		one.putRandom(random, at, batch)
	}
	const user = pairs * size
	changes := one.metric("dkv_changelog_bytes")
	atMost(t, "change log", changes, user+pairs*c["record"])
	atMost(t, "disk of the engine", one.metric("dkv_storage_disk_bytes"),
		pairs*(size+c["pair"])*c["amplification"]+(user+pairs*c["record"])*c["amplification"]+2*buffer)
	atMost(t, "disk of the Raft log", folder(t, filepath.Join(one.dir, "db", "nexus", "log")), user+pairs*c["entry"]+3*64<<20)
	if changes < user {
		t.Errorf("the change log has %.0f bytes of %d that were written: the test does not measure it", changes, user)
	}

	const many = 64
	more := newFixture(t, t.TempDir(), append(master, "http://"+testkit.Address(t), "--vbuckets", fmt.Sprint(many))...)
	testkit.Eventually(t, "all vBuckets have a leader", func() bool { return more.leads() == many })
	atMost(t, "memory of vBuckets", more.resident()-empty, (many-1)*c["vbucket-memory"])
	atMost(t, "open files of vBuckets", float64(more.files())-files, (many-1)*c["vbucket-files"]+16)
}

// dial opens a connection that stays until the test ends, and makes a call on it.
func (f *fixture) dial() {
	f.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if _, err := serverpb.NewDKVClient(conn).Get(ctx, &serverpb.GetRequest{Key: []byte("k")}); err != nil {
		f.t.Fatal(err)
	}
}

// putRandom writes pairs whose values cannot be compressed.
func (f *fixture) putRandom(random *rand.ChaCha8, first, n int) {
	f.t.Helper()
	var request serverpb.MultiPutRequest
	for i := range n {
		value := make([]byte, 512)
		random.Read(value)
		request.PutRequest = append(request.PutRequest, &serverpb.PutRequest{Key: binary.BigEndian.AppendUint64(nil, uint64(first+i)), Value: value})
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if _, err := f.client().MultiPut(ctx, &request); err != nil {
		f.t.Fatal(err)
	}
}

// resident is the memory that the process has, in bytes.
func (f *fixture) resident() float64 {
	f.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.PID()))
	if err != nil {
		f.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(raw))
	if m == nil {
		f.t.Fatalf("no resident memory in %s", raw)
	}
	kib, err := strconv.Atoi(m[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return float64(kib) * 1024
}

// metric is the sum of a metric's samples.
func (f *fixture) metric(name string) (sum float64) {
	f.t.Helper()
	for line := range strings.Lines(f.scrape()) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			f.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func (f *fixture) leads() int { return int(f.metric("dkv_raft_is_leader")) }

func (f *fixture) scrape() string {
	f.t.Helper()
	response, err := http.Get("http://" + f.http + "/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// folder is the size of the files below a folder, as they take space on the disk.
func folder(t *testing.T, path string) (sum float64) {
	t.Helper()
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += float64(info.Size())
		}
		return err
	})
	if err != nil || sum == 0 {
		t.Fatalf("the size of %s is %.0f: %v", path, sum, err)
	}
	return sum
}
