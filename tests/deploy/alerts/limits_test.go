package alerts

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// behindShell has the node started by a shell that runs a command first.
func behindShell(n *scraped.Node, command string) {
	n.Options.Program, n.Options.Args = "/bin/sh", append([]string{"-c", command + "; exec " + dkvsrv + ` "$@"`, "sh"}, n.Options.Args...)
}

func causesOfLimits(t *testing.T, fired map[string]bool) {
	next, dir := addressesOf(t, 3), t.TempDir()
	crowded := scraped.NewNode(dir, "crowded", next(), next(), "--max-streams", "1")
	files := scraped.NewNode(dir, "files", next(), next(), "--max-connections", "390", "--max-connections-per-host", "390")
	behindShell(files, "ulimit -n 400")
	memory := scraped.NewNode(dir, "memory", next(), next(), "--db-engine", "badger", "--diskless")
	group := memoryGroup(t)
	limit(t, group, 256)
	behindShell(memory, "echo $$ >"+filepath.Join(group, "cgroup.procs"))
	w := alone(t, fired, crowded, files, memory)

	var stop func()
	w.cause(t, "clients open more streams than max-streams", []string{"DKVLimitsReached"}, func() { stop = watchMuch(t, crowded.GRPC) }, func() { stop() })
	w.cause(t, "330 connections, of 400 descriptors", []string{"DKVFewFileDescriptors"}, func() { stop = hold(t, files.GRPC, 330) }, func() { stop() })
	w.cause(t, "data in memory grows to 90 % of its limit", []string{"DKVMemoryHigh"}, func() {
		// The node has read its limit when it started. The kernel would end it at a moment
		// that depends on the collector of garbage.
		limit(t, group, 1024)
		fillMemory(t, memory, 230<<20)
	}, func() {
		memory.End(syscall.SIGTERM)
		memory.Start(t)
	})
}

// memoryGroup makes a control group that limits memory.
func memoryGroup(t *testing.T) string {
	t.Helper()
	group := filepath.Join("/sys/fs/cgroup/memory", fmt.Sprintf("dkv-test-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o700); err != nil {
		testkit.SkipFault(t, "limit of memory", err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	return group
}

func limit(t *testing.T, group string, mib int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(mib<<20)), 0); err != nil {
		t.Fatal(err)
	}
}

// watchMuch opens streams until it is stopped, each for a second.
func watchMuch(t *testing.T, address string) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	client := serverpb.NewDKVReplicationClient(scraped.Dial(t, address))
	for range 4 {
		scraped.Forever(t, func(context.Context, int) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if stream, err := client.WatchChanges(ctx, &serverpb.WatchChangesRequest{}); err == nil {
				_, _ = stream.Recv()
			}
		})
	}
	return stop
}

// fillMemory writes until the process of a node has so many bytes in memory, and again
// whenever it has fewer, until the node ends.
func fillMemory(t *testing.T, n *scraped.Node, bytes int) {
	t.Helper()
	client := serverpb.NewDKVClient(scraped.Dial(t, n.GRPC))
	pid, value := n.PID(), make([]byte, 100<<10)
	scraped.Forever(t, func(ctx context.Context, i int) {
		for ; resident(pid) < bytes && ctx.Err() == nil; i += 1000 {
			_, _ = rand.Read(value)
			if _, err := client.Put(ctx, &serverpb.PutRequest{Key: fmt.Appendf(nil, "key-%d", i), Value: value}); err != nil {
				return
			}
		}
	})
}

// resident is how many bytes a process has in memory.
func resident(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return math.MaxInt // it has ended
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize()
}
