package master

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"
	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// model is what a keyspace should hold: a map, and a clock.
type model struct {
	pairs map[string]modelPair
	now   uint64
	index uint64
}

type modelPair struct {
	value    string
	expireTS uint64
}

func (m *model) get(key string) (modelPair, bool) {
	p, found := m.pairs[key]
	return p, found && (p.expireTS == 0 || p.expireTS > m.now)
}

func (m *model) set(key, value string, expireTS uint64) { m.pairs[key] = modelPair{value, expireTS} }

// live lists the keys of a range in order.
func (m *model) live(prefix, start string, reverse bool) []string {
	out := []string{}
	for key := range m.pairs {
		p, live := m.get(key)
		in := strings.HasPrefix(key, prefix) && (start == "" || key == start || (key > start) != reverse)
		if live && in {
			out = append(out, fmt.Sprintf("%s=%s", key, p.value))
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		ka, _, _ := strings.Cut(a, "=")
		kb, _, _ := strings.Cut(b, "=")
		return strings.Compare(ka, kb)
	})
	if reverse {
		slices.Reverse(out)
	}
	return out
}

// TestNodeAgainstModel does what chance says to a node and to the model, and
// compares every answer. Few keys make for many meetings.
func TestNodeAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		m := &model{pairs: map[string]modelPair{}, now: mastertest.Epoch}
		a := actions{rt: rt, t: t, r: r, m: m}
		rt.Repeat(map[string]func(*rapid.T){
			"put":       a.put,
			"multi-put": a.multiPut,
			"delete":    a.delete,
			"cas":       a.compareAndSet,
			"increment": a.increment,
			"get":       a.get,
			"multi-get": a.multiGet,
			"iterate":   a.iterate,
			"sleep":     a.sleep,
			"pause":     a.pause,
			"":          a.check,
		})
	})
}

type actions struct {
	rt *rapid.T
	t  *testing.T
	r  *rig
	m  *model
}

var (
	genKey    = rapid.StringOfN(rapid.SampledFrom([]rune("ab\x01")), 1, 2, -1)
	genValue  = rapid.SampledFrom([]string{"", "x", "y", "\x00\x00\x00\x00\x00\x00\x00\x07"})
	genExpire = rapid.SampledFrom([]int{0, 0, -1, 1, 5})
)

// expiry draws an expireTS: none, past, or soon.
func (a actions) expiry(t *rapid.T) uint64 {
	if d := genExpire.Draw(t, "expiry"); d != 0 {
		return uint64(int(a.m.now) + d)
	}
	return 0
}

func (a actions) wrote(t *rapid.T, index uint64, err error) {
	a.m.index++
	if err != nil || index < a.m.index {
		t.Fatalf("index %d, want %d or more: %v", index, a.m.index, err)
	}
	a.m.index = index // expiries of the node's own may lie in between
}

func (a actions) put(t *rapid.T) {
	key, value, expireTS := genKey.Draw(t, "key"), genValue.Draw(t, "value"), a.expiry(t)
	resp, err := a.r.Put(a.t.Context(), &serverpb.PutRequest{Key: []byte(key), Value: []byte(value), ExpireTS: expireTS})
	a.wrote(t, resp.GetIndex(), err)
	a.m.set(key, value, expireTS)
}

func (a actions) multiPut(t *rapid.T) {
	req := &serverpb.MultiPutRequest{}
	for range rapid.IntRange(1, 4).Draw(t, "n") {
		key, value, expireTS := genKey.Draw(t, "key"), genValue.Draw(t, "value"), a.expiry(t)
		req.PutRequest = append(req.PutRequest, &serverpb.PutRequest{Key: []byte(key), Value: []byte(value), ExpireTS: expireTS})
		a.m.set(key, value, expireTS)
	}
	resp, err := a.r.MultiPut(a.t.Context(), req)
	a.wrote(t, resp.GetIndex(), err)
}

func (a actions) delete(t *rapid.T) {
	key := genKey.Draw(t, "key")
	resp, err := a.r.Delete(a.t.Context(), &serverpb.DeleteRequest{Key: []byte(key)})
	a.wrote(t, resp.GetIndex(), err)
	delete(a.m.pairs, key)
}

func (a actions) compareAndSet(t *rapid.T) {
	key, old, value, expireTS := genKey.Draw(t, "key"), genValue.Draw(t, "old"), genValue.Draw(t, "value"), a.expiry(t)
	resp, err := a.r.CompareAndSet(a.t.Context(), &serverpb.CompareAndSetRequest{
		Key: []byte(key), OldValue: []byte(old), NewValue: []byte(value), ExpireTS: expireTS,
	})
	a.wrote(t, resp.GetIndex(), err)
	p, live := a.m.get(key)
	want := live && p.value == old || !live && old == ""
	if resp.GetUpdated() != want {
		t.Fatalf("updated %v, want %v", resp.GetUpdated(), want)
	}
	if want {
		a.m.set(key, value, expireTS)
	}
}

func (a actions) increment(t *rapid.T) {
	key, expireTS := genKey.Draw(t, "key"), a.expiry(t)
	resp, err := a.r.Increment(a.t.Context(), &serverpb.IncrementRequest{Key: []byte(key), Delta: 3, ExpireTS: expireTS})
	p, live := a.m.get(key)
	if live && p.value != "" && len(p.value) != 8 {
		if err == nil {
			t.Fatalf("%q was incremented to %d", p.value, resp.GetValue())
		}
		a.m.index++
		return
	}
	a.wrote(t, resp.GetIndex(), err)
	want := int64(3)
	if live && p.value != "" {
		want += int64(binary.BigEndian.Uint64([]byte(p.value)))
	}
	if resp.GetValue() != want {
		t.Fatalf("counter %d, want %d", resp.GetValue(), want)
	}
	if expireTS == 0 && live {
		expireTS = p.expireTS
	}
	a.m.set(key, string(binary.BigEndian.AppendUint64(nil, uint64(want))), expireTS)
}

func (a actions) get(t *rapid.T) {
	key := genKey.Draw(t, "key")
	resp, err := a.r.Get(a.t.Context(), &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	p, live := a.m.get(key)
	if !live {
		p = modelPair{}
	}
	if err != nil || resp.GetFound() != live || string(resp.GetValue()) != p.value || resp.GetExpireTS() != p.expireTS {
		t.Fatalf("%q is %v, %v; want %+v (%v)", key, resp, err, p, live)
	}
}

func (a actions) multiGet(t *rapid.T) {
	req := &serverpb.MultiGetRequest{}
	var want []byte
	for range rapid.IntRange(0, 5).Draw(t, "n") {
		key := genKey.Draw(t, "key")
		req.Keys = append(req.Keys, []byte(key))
		if p, live := a.m.get(key); live {
			want = fmt.Appendf(want, "%q=%q ", key, p.value)
		}
	}
	resp, err := a.r.MultiGet(a.t.Context(), req)
	var got []byte
	for _, p := range resp.GetKeyValues() {
		got = fmt.Appendf(got, "%q=%q ", p.GetKey(), p.GetValue())
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s, %v; want %s", got, err, want)
	}
}

func (a actions) iterate(t *rapid.T) {
	prefix := rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "prefix")
	start := ""
	if rapid.Bool().Draw(t, "from") {
		start = prefix + genKey.Draw(t, "start")
	}
	req := &serverpb.IterateRequest{
		KeyPrefix: []byte(prefix), StartKey: []byte(start),
		Reverse: rapid.Bool().Draw(t, "reverse"),
		Batched: rapid.Bool().Draw(t, "batched"),
		Limit:   rapid.Uint64Range(0, 3).Draw(t, "limit"),
	}
	want := a.m.live(prefix, start, req.GetReverse())
	if n := int(req.GetLimit()); n > 0 && len(want) > n {
		want = want[:n]
	}
	if got := a.r.Pairs(req); !slices.Equal(got, want) {
		t.Fatalf("%v: %q, want %q", req, got, want)
	}
}

func (a actions) sleep(t *rapid.T) {
	d := rapid.Int64Range(1, 3).Draw(t, "seconds")
	a.r.Sleep(d)
	a.m.now += uint64(d)
}

// pause refuses one put.
func (a actions) pause(t *rapid.T) {
	ctx := a.t.Context()
	_, err1 := a.r.Ops.PauseWrites(ctx, &emptypb.Empty{})
	_, err2 := a.r.Put(ctx, &serverpb.PutRequest{Key: []byte("a"), Value: []byte("refused")})
	_, err3 := a.r.Ops.ResumeWrites(ctx, &emptypb.Empty{})
	if err1 != nil || err2 == nil || err3 != nil {
		t.Fatalf("pause %v, put %v, resume %v", err1, err2, err3)
	}
	a.m.index += 2
}

func (a actions) check(t *rapid.T) {
	if got, want := a.r.Pairs(&serverpb.IterateRequest{}), a.m.live("", "", false); !slices.Equal(got, want) {
		t.Fatalf("the keyspace is %q, want %q", got, want)
	}
}
