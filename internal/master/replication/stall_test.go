package replication

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

// A watch, and a slave's stream, is resumed with the first change that it has not got; or
// with the first one of its last message, if that arrived although the stream was ended
// while it was being sent.
func TestStalledChangesAreResumed(t *testing.T) {
	r := newRig(t)
	last := kv.Index(0)
	for range 3000 {
		last = r.MustPut("k", strings.Repeat("v", 900))
	}
	conn, ended := mastertest.Impatient(t, &serverpb.DKVReplication_ServiceDesc, r.service)
	client := serverpb.NewDKVReplicationClient(conn)
	for name, open := range map[string]func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error){
		"watch": func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error) {
			return client.WatchChanges(t.Context(), &serverpb.WatchChangesRequest{FromChangeNumber: 1})
		},
		"stream": func() (grpc.ServerStreamingClient[serverpb.GetChangesResponse], error) {
			return client.StreamChanges(t.Context(), &serverpb.StreamChangesRequest{FromChangeNumber: 1})
		},
	} {
		message, next := uint64(1), uint64(1)
		s, err := open()
		err = mastertest.Stall(t, s, err, ended, func(m *serverpb.GetChangesResponse) {
			message = next
			for _, c := range m.GetChanges() {
				if c.GetChangeNumber() != next {
					t.Fatalf("%s: change %d comes when %d is due", name, c.GetChangeNumber(), next)
				}
				next++
			}
		})
		got, err := strconv.ParseUint(mastertest.ResumeOf(t, err)[kv.ResumeChange], 10, 64)
		if err != nil || got != next && got != message || next > last {
			t.Errorf("%s: it is resumed with change %d (%v), and %d is due, of %d; the last message began with %d", name, got, err, next, last, message)
		}
	}
}
