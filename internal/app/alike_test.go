package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestNodesAnswerAlike makes the same requests of nodes of each kind, at the edges of what keys, values, expiries and
// counters may be. Each answers the same: with either engine, with a log of its own, as the leader of several, by
// forwarding, and with one or several vBuckets. A slave shows what its master does.
func TestNodesAnswerAlike(t *testing.T) {
	alone := func(args ...string) func(*testing.T) []*process {
		return func(t *testing.T) []*process { return []*process{start(t, args...)} }
	}
	for name, nodes := range map[string]func(*testing.T) []*process{
		"RocksDB":         alone("--db-engine", "rocksdb"),
		"Badger":          alone("--db-engine", "badger"),
		"Badger, no disk": alone("--db-engine", "badger", "--diskless"),
		"three masters":   func(t *testing.T) []*process { return masters(t, 3) },
		"three masters, eight vBuckets": func(t *testing.T) []*process {
			return mastersWith(t, 3, "--disable-discovery-client", "--vbuckets", "8")
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := nodes(t)
			var at []*asker
			for i, p := range all {
				at = append(at, &asker{t: t, DKVClient: serverpb.NewDKVClient(connect(t, p.grpc())), id: uint64(i) + 1})
			}
			for _, a := range at {
				a.clear()
				for _, q := range questions {
					if got := q.ask(a); got != q.want {
						t.Errorf("%s: %.300s, want %.300s", q.name, got, q.want)
					}
				}
			}
			everything := at[0].iterate(&serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			shows := func(p *process) {
				a := &asker{t: t, DKVClient: serverpb.NewDKVClient(connect(t, p.grpc()))}
				testkit.Eventually(t, "a replica shows all keys", func() bool { return a.iterate(&serverpb.IterateRequest{}) == everything })
			}
			for _, p := range all {
				shows(p)
			}
			for _, engine := range []string{"rocksdb", "badger"} {
				slave := []string{"--role", "slave", "--disable-discovery-client", "--repl-master-addr", all[0].grpc(), "--db-engine", engine}
				if strings.Contains(name, "eight") {
					slave = append(slave, "--vbuckets", "8")
				}
				shows(start(t, slave...))
			}
		})
	}
}

// TestWhatBadgerTakesAtOnce compares the bounds that the reference and a warning state with what a node does.
func TestWhatBadgerTakesAtOnce(t *testing.T) {
	p := start(t, "--db-engine", "badger", "--diskless", "--max-value-size", "7MiB")
	a := &asker{t: t, DKVClient: serverpb.NewDKVClient(connect(t, p.grpc()))}
	const around = 4 << 10
	value := strings.Repeat("v", int(config.MostOfBadger))
	many := make([]*serverpb.PutRequest, 40_000)
	for i := range many {
		many[i] = pair(fmt.Sprint(i), "", 0)
	}
	for name, got := range map[string]struct{ answer, want string }{
		"a value":           {a.put("k", value[around:], 0), "put"},
		"several values":    {a.putAll(pair("k", value[around:2*around], 0), pair("l", value[2*around:], 0)), "put"},
		"too large a value": {a.put("k", value, 0), "InvalidArgument"},
		"many keys":         {a.putAll(many[100:]...), "put"},
		"too many keys":     {a.putAll(many...), "InvalidArgument"},
	} {
		if answer, _, _ := strings.Cut(got.answer, ":"); answer != got.want {
			t.Errorf("%s: %s", name, got.answer)
		}
	}
}

// asker makes requests of a node, and returns its answers as texts.
type asker struct {
	serverpb.DKVClient
	t  *testing.T
	id uint64 // of its requests
}

func answered(text string, err error) string {
	if err != nil {
		return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return text
}

// shownAs is how a key or a value is written: long ones by their length.
func shownAs(b []byte) string {
	if len(b) > 64 {
		return fmt.Sprintf("%d bytes of %q", len(b), b[:1])
	}
	return fmt.Sprintf("%q", b)
}

func pairText(key, value []byte, expireTS uint64) string {
	out := shownAs(key) + "=" + shownAs(value)
	if expireTS != 0 {
		out += fmt.Sprint(" until ", expireTS)
	}
	return out
}

const largest = 64 << 20 // of messages, for the client

func (a *asker) put(key, value string, expireTS uint64) string {
	_, err := a.Put(testkit.Within(a.t, testkit.Patience), &serverpb.PutRequest{Key: []byte(key), Value: []byte(value), ExpireTS: expireTS})
	return answered("put", err)
}

func (a *asker) get(key string) string {
	r, err := a.Get(testkit.Within(a.t, testkit.Patience), &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}, grpc.MaxCallRecvMsgSize(largest))
	if err == nil && !r.GetFound() && len(r.GetValue()) == 0 && r.GetExpireTS() == 0 {
		return "absent"
	}
	return answered(pairText([]byte(key), r.GetValue(), r.GetExpireTS()), err)
}

func (a *asker) getAll(keys ...string) string {
	req := &serverpb.MultiGetRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
	for _, k := range keys {
		req.Keys = append(req.Keys, []byte(k))
	}
	r, err := a.MultiGet(testkit.Within(a.t, testkit.Patience), req, grpc.MaxCallRecvMsgSize(largest))
	var out []string
	for _, p := range r.GetKeyValues() {
		out = append(out, pairText(p.GetKey(), p.GetValue(), p.GetExpireTS()))
	}
	return answered(strings.Join(out, ", "), err)
}

// pair is one of several that are put.
func pair(key, value string, expireTS uint64) *serverpb.PutRequest {
	return &serverpb.PutRequest{Key: []byte(key), Value: []byte(value), ExpireTS: expireTS}
}

func (a *asker) putAll(pairs ...*serverpb.PutRequest) string {
	_, err := a.MultiPut(testkit.Within(a.t, testkit.Patience), &serverpb.MultiPutRequest{PutRequest: pairs, MaySplit: true})
	return answered("put", err)
}

func (a *asker) remove(key string) string {
	_, err := a.Delete(testkit.Within(a.t, testkit.Patience), &serverpb.DeleteRequest{Key: []byte(key)})
	return answered("deleted", err)
}

func (a *asker) swap(key, old, value string, expireTS uint64) string {
	r, err := a.CompareAndSet(testkit.Within(a.t, testkit.Patience), &serverpb.CompareAndSetRequest{Key: []byte(key), OldValue: []byte(old), NewValue: []byte(value), ExpireTS: expireTS})
	return answered(fmt.Sprint(r.GetUpdated()), err)
}

func (a *asker) add(key string, delta int64, expireTS uint64) string {
	return a.addAs(nil, key, delta, expireTS)
}

func (a *asker) addAs(id *serverpb.RequestID, key string, delta int64, expireTS uint64) string {
	r, err := a.Increment(testkit.Within(a.t, testkit.Patience), &serverpb.IncrementRequest{Key: []byte(key), Delta: delta, ExpireTS: expireTS, RequestId: id})
	return answered(fmt.Sprint(r.GetValue()), err)
}

// iterate returns what an iteration finds, which has to be the same one by one and in batches.
func (a *asker) iterate(r *serverpb.IterateRequest) string {
	one := a.walk(r)
	r.Batched = true
	if batched := a.walk(r); batched != one {
		return fmt.Sprintf("one by one %s, in batches %s", one, batched)
	}
	return one
}

func (a *asker) walk(r *serverpb.IterateRequest) string {
	stream, err := a.Iterate(testkit.Within(a.t, testkit.Patience), r, grpc.MaxCallRecvMsgSize(largest))
	if err != nil {
		return answered("", err)
	}
	var out []string
	for {
		switch m, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return strings.Join(out, ", ")
		case err != nil:
			return answered("", err)
		case len(m.GetKey()) > 0:
			out = append(out, pairText(m.GetKey(), m.GetValue(), m.GetExpireTS()))
		default:
			for _, p := range m.GetPairs() {
				out = append(out, pairText(p.GetKey(), p.GetValue(), p.GetExpireTS()))
			}
		}
	}
}

// keys returns the keys that an iteration finds.
func (a *asker) keys(prefix, start string, reverse bool, limit uint64) string {
	return strings.ReplaceAll(a.iterate(&serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE,
		KeyPrefix: []byte(prefix), StartKey: []byte(start), Reverse: reverse, Limit: limit, KeysOnly: true}), `=""`, "")
}

// clear deletes all keys.
func (a *asker) clear() {
	stream, err := a.Iterate(testkit.Within(a.t, testkit.Patience), &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE, KeysOnly: true})
	if err != nil {
		a.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			a.t.Fatal(err)
		}
		if got := a.remove(string(m.GetKey())); got != "deleted" {
			a.t.Fatal(got)
		}
	}
}

// question is a request, and its answer at every node.
type question struct {
	name string
	ask  func(*asker) string
	want string
}

const (
	past   = 1
	future = 1 << 40
	never  = math.MaxUint64
)

// key1K and value4M are the longest that the default limits allow.
var (
	key1K   = strings.Repeat("k", 1<<10)
	value4M = string(bytes.Repeat([]byte("v"), 4<<20))
)
