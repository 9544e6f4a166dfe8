package slave

import (
	"math"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

func put(key, value string, expireTS uint64) *serverpb.TrxnRecord {
	return &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Put, Key: []byte(key), Value: []byte(value), ExpireTS: expireTS}
}

func record(number uint64, trxns ...*serverpb.TrxnRecord) *serverpb.ChangeRecord {
	return &serverpb.ChangeRecord{ChangeNumber: number, Clock: 7, Trxns: trxns}
}

func response(newest uint64, records ...*serverpb.ChangeRecord) *serverpb.GetChangesResponse {
	return &serverpb.GetChangesResponse{HistoryId: "h", MasterChangeNumber: newest, Changes: records}
}

func TestStretchOf(t *testing.T) {
	s := &session{history: "h"}
	del := &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Delete, Key: []byte("d")}
	st, err := s.stretchOf(response(20, record(5, put("a", "1", 0), del), record(9, put("b", "22", 3))), 4)
	if err != nil || st.upTo != 9 || st.bytes != 6 || len(st.changes) != 2 {
		t.Fatalf("%+v, %v", st, err)
	}
	if c := st.changes[0]; c.Index != 5 || c.Clock != 7 || len(c.Mutations) != 2 || string(c.Mutations[0].Value) != "1" || !c.Mutations[1].Delete {
		t.Errorf("%+v", c)
	}
	if c := st.changes[1]; c.Index != 9 || len(c.Mutations) != 1 || c.Mutations[0].ExpireTS != 3 {
		t.Errorf("%+v", c)
	}
	// Numbers without effect are over when there is nothing else.
	if st, err = s.stretchOf(response(20), 9); err != nil || st.upTo != 20 || len(st.changes) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err = s.stretchOf(response(3), 9); err != nil || st.upTo != 9 {
		t.Errorf("a master that was reopened: %+v, %v", st, err)
	}
}

func TestStretchOfNonsense(t *testing.T) {
	s := &session{history: "h"}
	foreign := response(20)
	foreign.HistoryId = "other"
	for name, c := range map[string]struct {
		resp *serverpb.GetChangesResponse
		kind kv.Kind
	}{
		"another history":   {foreign, kv.Precondition},
		"applied already":   {response(20, record(4, put("a", "1", 0))), kv.Internal},
		"twice":             {response(20, record(5, put("a", "1", 0)), record(5, put("a", "1", 0))), kv.Internal},
		"no key":            {response(20, record(5, put("", "1", 0))), kv.Internal},
		"an unknown type":   {response(20, record(5, &serverpb.TrxnRecord{Type: 9, Key: []byte("a")})), kv.Unimplemented},
		"a type of nothing": {response(20, record(5, &serverpb.TrxnRecord{Key: []byte("a")})), kv.Unimplemented},
	} {
		if st, err := s.stretchOf(c.resp, 4); err == nil || kv.KindOf(err) != c.kind {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
}

func TestHolds(t *testing.T) {
	mine := kv.Change{Index: 5, Clock: 7, Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte("1"), ExpireTS: 2}, {Key: []byte("d"), Delete: true}}}
	del := &serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Delete, Key: []byte("d")}
	later := record(5, put("a", "1", 2), del)
	later.Clock = 8
	for name, c := range map[string]struct {
		resp *serverpb.GetChangesResponse
		want bool
	}{
		"the same":        {response(9, record(5, put("a", "1", 2), del)), true},
		"and news":        {response(9, record(5, put("a", "1", 2), del), record(8, del)), true},
		"and what is not": {response(9, record(5, put("a", "1", 2), del), record(7, del)), false},
		"nothing":         {response(9), false},
		"a later one":     {response(9, record(6, put("a", "1", 2), del)), false},
		"another clock":   {response(9, later), false},
		"another value":   {response(9, record(5, put("a", "2", 2), del)), false},
		"another expiry":  {response(9, record(5, put("a", "1", 3), del)), false},
		"another key":     {response(9, record(5, put("b", "1", 2), del)), false},
		"split otherwise": {response(9, record(5, put("a1", "", 2), del)), false},
		"an unknown type": {response(9, record(5, put("a", "1", 2), &serverpb.TrxnRecord{Type: 9, Key: []byte("d")})), false},
		"fewer mutations": {response(9, record(5, put("a", "1", 2))), false},
		"a put":           {response(9, record(5, put("a", "1", 2), put("d", "", 0))), false},
	} {
		if got := markOf(&mine).holds(c.resp, 7); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFreshness(t *testing.T) {
	begun := time.Now()
	at := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Second) }
	var f freshness
	f.add(claim{newest: 1}) // says nothing of when
	if _, ok := f.reached(9); ok {
		t.Error("a claim without a time")
	}
	f.add(claim{newest: 10, at: at(1)})
	f.add(claim{newest: 20, at: at(2)})
	f.add(claim{newest: 20, at: at(3)})
	if _, ok := f.reached(9); ok {
		t.Error("too early")
	}
	if got, ok := f.reached(10); !ok || !got.Equal(at(1)) {
		t.Errorf("%v, %v", got, ok)
	}
	if got, ok := f.reached(25); !ok || !got.Equal(at(3)) {
		t.Errorf("%v, %v", got, ok)
	}
	if _, ok := f.reached(30); ok {
		t.Error("twice")
	}
	// A state that is never quite there still knows how old it is.
	for i := range 100 {
		f.add(claim{newest: kv.Index(100 + i), at: at(10 + i)})
	}
	if len(f.claims) > maxClaims {
		t.Errorf("%d claims are kept", len(f.claims))
	}
	if got, ok := f.reached(101); !ok || !got.Equal(at(11)) {
		t.Errorf("%v, %v", got, ok)
	}
}

func TestClaimOf(t *testing.T) {
	now := time.Now()
	resp := response(7)
	resp.AgeMillis = 1500
	if c := claimOf(resp, now); c.newest != 7 || !c.at.Equal(now.Add(-1500*time.Millisecond)) {
		t.Errorf("%+v", c)
	}
	resp.AgeMillis = math.MaxUint64
	if c := claimOf(resp, now); now.Sub(c.at) != maxAge {
		t.Errorf("%+v", c)
	}
}

func TestPatience(t *testing.T) {
	var p patience
	if p.length() != minPatience {
		t.Error(p.length())
	}
	for range 20 {
		p.more()
	}
	if p.length() != maxPatience {
		t.Error(p.length())
	}
	if p.reset(); p.length() != minPatience {
		t.Error(p.length())
	}
}
