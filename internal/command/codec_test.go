package command_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

func key(k string) []byte { return []byte(k) }

// golden are encodings that stand in logs: their bytes must never change, or
// another version of them must be added.
var golden = []struct {
	name string
	hex  string
	c    command.Command
}{
	{"put", "01 01 00 e807 01 00 0161 0176", command.Command{
		Kind: command.Write, Clock: 1000,
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("v")}},
	}},
	{"many", "01 01 00 00 04 00 0161 00 02 0162 ac02 0176 01 0163 03 0164 05", command.Command{
		Kind: command.Write,
		Mutations: []kv.Mutation{
			{Key: key("a"), Value: []byte{}},
			{Key: key("b"), Value: key("v"), ExpireTS: 300},
			{Key: key("c"), Delete: true},
			{Key: key("d"), Delete: true, ExpireTS: 5},
		},
	}},
	{"nothing", "01 01 00 00 00", command.Command{Kind: command.Write}},
	{"request", "01 01 01 80d095ffbc31 0807060504030201 ac02 07 01 00 0161 0176", command.Command{
		Kind: command.Write, Clock: 1_700_000_000_000,
		Request:   kv.RequestID{Client: 0x0102030405060708, Sequence: 300, Acked: 7},
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("v")}},
	}},
	{"compare-and-set", "01 02 02 01 036f6c64 01 00 0161 036e6577", command.Command{
		Kind: command.CompareAndSet, Clock: 1, Expect: key("old"),
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("new")}},
	}},
	{"create", "01 02 00 01 01 00 0161 036e6577", command.Command{
		Kind: command.CompareAndSet, Clock: 1,
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("new")}},
	}},
	{"increment", "01 03 04 01 0a 01 00 016e 00", command.Command{
		Kind: command.Increment, Clock: 1, Delta: 5,
		Mutations: []kv.Mutation{{Key: key("n"), Value: []byte{}}},
	}},
	{"decrement", "01 03 05 01 0100000000000000 01 00 ffffffffffffffffff01 01 02 016e 09 00", command.Command{
		Kind: command.Increment, Clock: 1, Delta: math.MinInt64,
		Request:   kv.RequestID{Client: 1, Sequence: 1},
		Mutations: []kv.Mutation{{Key: key("n"), Value: []byte{}, ExpireTS: 9}},
	}},
	{"expire", "01 04 00 01 01 03 0161 ac02", command.Command{
		Kind: command.Expire, Clock: 1,
		Mutations: []kv.Mutation{{Key: key("a"), ExpireTS: 300, Delete: true}},
	}},
	{"pause", "01 05 08 01 00", command.Command{Kind: command.SetPaused, Clock: 1, Flag: true}},
	{"resume", "01 05 00 01 00", command.Command{Kind: command.SetPaused, Clock: 1}},
	{"begin epoch after a promotion", "02 06 20 06 01 05 02 0807060504030201 00 00 8088debe01 04312d6162 ac02 1817161514131211 00", command.Command{
		Kind: command.BeginEpoch, Clock: 1,
		Begin: &command.Begin{
			Term: 5, Owner: 2, Nonce: 0x0102030405060708, Lease: 400 * time.Millisecond, Stated: true,
			Origin: &command.Origin{History: "1-ab", End: 300, Digest: 0x1112131415161718},
		},
	}},
	{"standbys", "01 13 16 01 027b7d 8e02 ac02 00", command.Command{
		Kind: command.SetStandbys, Clock: 1, Expect: key("{}"), Delta: 135, Fence: 300,
	}},
	{"seal", "01 14 12 01 0170 ac02 00", command.Command{Kind: command.Seal, Clock: 1, Expect: key("p"), Fence: 300}},
	{"unseal", "01 15 02 01 0170 00", command.Command{Kind: command.Unseal, Clock: 1, Expect: key("p")}},
	{"fenced put", "01 01 10 01 ac02 01 00 0161 0176", command.Command{
		Kind: command.Write, Clock: 1, Fence: 300,
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("v")}},
	}},
	{"begin epoch", "01 06 20 01 05 02 0807060504030201 0163 0168 00", command.Command{
		Kind: command.BeginEpoch, Clock: 1,
		Begin: &command.Begin{Term: 5, Owner: 2, Nonce: 0x0102030405060708, Cluster: "c", History: "h"},
	}},
	{"begin epoch with a lease", "02 06 20 02 01 05 02 0807060504030201 0163 0168 8088debe01 00", command.Command{
		Kind: command.BeginEpoch, Clock: 1, Begin: &command.Begin{
			Term: 5, Owner: 2, Nonce: 0x0102030405060708, Cluster: "c", History: "h", Lease: 400 * time.Millisecond, Stated: true,
		},
	}},
	{"begin epoch without leases", "02 06 20 02 01 05 02 0807060504030201 00 00 00 00", command.Command{
		Kind: command.BeginEpoch, Clock: 1, Begin: &command.Begin{Term: 5, Owner: 2, Nonce: 0x0102030405060708, Stated: true},
	}},
	{"end epoch", "01 07 10 01 07 00", command.Command{Kind: command.EndEpoch, Clock: 1, Fence: 7}},
	{"set member", "01 08 40 01 03 0172 00", command.Command{
		Kind: command.SetMember, Clock: 1, Member: &command.Member{ID: 3, Record: key("r")},
	}},
	{"begin restore", "01 09 10 01 07 00", command.Command{Kind: command.BeginRestore, Clock: 1, Fence: 7}},
	{"stage restore", "01 0a 10 01 07 01 00 0161 0176", command.Command{
		Kind: command.StageRestore, Clock: 1, Fence: 7,
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("v")}},
	}},
	{"end restore", "01 0b 90 01 07 ac02 09 0168 00", command.Command{
		Kind: command.EndRestore, Clock: 1, Fence: 7,
		Restored: &command.Restored{Pairs: 300, Index: 9, History: "h"},
	}},
	{"abort restore", "01 0c 10 01 07 00", command.Command{Kind: command.AbortRestore, Clock: 1, Fence: 7}},
	{"set slave", "01 0d 1a 01 05 7a00613a31 07 00", command.Command{
		Kind: command.SetSlave, Clock: 1, Fence: 7, Flag: true, Expect: key("z\x00a:1"),
	}},
	{"forget slave", "01 0d 02 01 04 00613a31 00", command.Command{Kind: command.SetSlave, Clock: 1, Expect: key("\x00a:1")}},
	{"repeated request", "02 01 01 01 01 0100000000000000 02 01 01 00 0161 0176", command.Command{
		Kind: command.Write, Clock: 1,
		Request:   kv.RequestID{Client: 1, Sequence: 2, Acked: 1, Repeat: true},
		Mutations: []kv.Mutation{{Key: key("a"), Value: key("v")}},
	}},
	{"tick", "01 0e 10 ac02 07 00", command.Command{Kind: command.Tick, Clock: 300, Fence: 7}},
	{"seal restore", "01 11 12 05 02 69 64 07 00", command.Command{Kind: command.SealRestore, Clock: 5, Expect: []byte("id"), Fence: 7}},
	{"set format", "01 12 14 05 04 07 00", command.Command{Kind: command.SetFormat, Clock: 5, Delta: 2, Fence: 7}},
	{"set timing", "01 10 16 05 04 610a6200 0e 07 00", command.Command{Kind: command.SetTiming, Clock: 5, Expect: []byte("a\nb\x00"), Delta: 7, Fence: 7}},
	{"set clock", "01 0f 10 ac02 07 00", command.Command{Kind: command.SetClock, Clock: 300, Fence: 7}},
	{"forget member", "01 08 40 01 03 00 00", command.Command{
		Kind: command.SetMember, Clock: 1, Member: &command.Member{ID: 3, Record: []byte{}},
	}},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			want := unhex(t, g.hex)
			if got := g.c.Append([]byte("kept")); !bytes.Equal(got, append([]byte("kept"), want...)) {
				t.Errorf("encoded as %x, want %x behind what was there", got, want)
			}
			got, err := command.Decode(want)
			if err != nil || !reflect.DeepEqual(got, g.c) {
				t.Errorf("decoded %+v, %v; want %+v", got, err, g.c)
			}
		})
	}
}

func TestGoldenResults(t *testing.T) {
	for _, g := range []struct {
		hex string
		r   command.Result
	}{
		{"01 00 00 00", command.Result{}},
		{"01 00 ac02 00", command.Result{Index: 300}},
		{"01 01 07 00", command.Result{Index: 7, Code: command.NotUpdated}},
		{"01 02 07 00", command.Result{Index: 7, Code: command.NotACounter}},
		{"01 03 07 01", command.Result{Index: 7, Code: command.Overflow, Counter: -1}},
		{"01 04 07 00", command.Result{Index: 7, Code: command.Paused}},
		{"01 05 07 00", command.Result{Index: 7, Code: command.StaleRequest}},
		{"01 06 07 00", command.Result{Index: 7, Code: command.Fenced}},
		{"01 00 ffffffffffffffffff01 feffffffffffffffff01", command.Result{Index: math.MaxUint64, Counter: math.MaxInt64}},
	} {
		want := unhex(t, g.hex)
		if got := command.AppendResult(nil, g.r); !bytes.Equal(got, want) {
			t.Errorf("%+v encoded as %x, want %x", g.r, got, want)
		}
		if got, err := command.DecodeResult(want); err != nil || got != g.r {
			t.Errorf("%x decoded %+v, %v; want %+v", want, got, err, g.r)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, bytes := range map[string]string{
		"nothing":                      "",
		"version only":                 "01",
		"no flags":                     "01 01",
		"no clock":                     "01 01 00",
		"version 0":                    "00 01 00 00 00",
		"version 2 of nothing":         "02 01 00 00 00 00",
		"version 2 cut short":          "02 01 00",
		"repeat of no request":         "02 01 00 01 00 00",
		"lease of no epoch":            "02 07 10 02 01 07 00",
		"lease without a length":       "02 06 20 02 01 05 02 0807060504030201 0163 0168",
		"lease of more than a day":     "02 06 20 02 01 05 02 0807060504030201 0163 0168 8180f4fadcd213 00",
		"kind 0":                       "01 00 00 00 00",
		"tick of a key":                "01 0e 00 01 01 00 0161 00",
		"tick with a request":          "01 0e 01 01 0100000000000000 01 00 00",
		"set clock to no time":         "01 0f 00 00 00",
		"set slave without a slave":    "01 0d 00 01 00",
		"set slave without a zone":     "01 0d 02 01 03 613a31 00",
		"set slave without an address": "01 0d 02 01 02 7a00 00",
		"set slave of a key":           "01 0d 02 01 04 00613a31 01 00 0161 00",
		"slave with a zero byte":       "01 0d 02 01 05 00613a3100 00",
		"put with a restored":          "01 01 80 01 05 07 0168 00",
		"end restore of nothing":       "01 0b 00 01 00",
		"end restore with a key":       "01 0b 80 01 05 07 0168 01 00 0161 0176",
		"stage of a delete":            "01 0a 00 01 01 01 0161",
		"restore cut short":            "01 0b 80 01 05",
		"clock too long for uint64":    "01 01 00 ffffffffffffffffff02 00",
		"clock without end":            "01 01 00 ffffffff",
		"clock with a needless 0":      "01 01 00 8000 00",
		"clock 1 in two bytes":         "01 01 00 8100 00",
		"client cut short":             "01 01 01 00 01000000000000",
		"client 0":                     "01 01 01 00 0000000000000000 01 00 00",
		"no sequence":                  "01 01 01 00 0100000000000000",
		"sequence 0":                   "01 01 01 00 0100000000000000 00 00 00",
		"acknowledges itself":          "01 01 01 00 0100000000000000 05 05 00",
		"acknowledges the future":      "01 01 01 00 0100000000000000 05 06 00",
		"expect cut short":             "01 02 02 00 05 6f6c64",
		"expect empty":                 "01 02 02 00 00 01 00 0161 00",
		"expect longer than memory":    "01 02 02 00 ffffffffffffffffff01",
		"delta 0":                      "01 03 04 00 00 01 00 016e 00",
		"delta with a needless 0":      "01 03 04 00 8a00 01 00 016e 00",
		"no mutations":                 "01 01 00 00",
		"fewer mutations than said":    "01 01 00 00 02 00 0161 0176",
		"more mutations than said":     "01 01 00 00 01 00 0161 0176 00 0162 0177",
		"a billion mutations":          "01 01 00 00 8094ebdc03 00 0161 0176",
		"2^64-1 mutations":             "01 01 00 00 ffffffffffffffffff01",
		"unknown op":                   "01 01 00 00 01 04 0161 0176",
		"no key":                       "01 01 00 00 01 00",
		"empty key":                    "01 01 00 00 01 00 00 0176",
		"key cut short":                "01 01 00 00 01 00 0261",
		"key of 2^64-1 bytes":          "01 01 00 00 01 00 ffffffffffffffffff01 61",
		"expiry 0":                     "01 01 00 00 01 02 0161 00 0176",
		"no expiry":                    "01 01 00 00 01 02 0161",
		"no value":                     "01 01 00 00 01 00 0161",
		"value cut short":              "01 01 00 00 01 00 0161 0276",
		"bytes behind the end":         "01 01 00 00 01 00 0161 0176 00",
		"delete with a value":          "01 01 00 00 01 01 0161 0176",
		"create without a put":         "01 02 00 01 00",
		"create of two":                "01 02 00 01 02 00 0161 00 00 0162 00",
		"create that deletes":          "01 02 00 01 01 01 0161",
		"increment without a key":      "01 03 04 01 0a 00",
		"increment that deletes":       "01 03 04 01 0a 01 01 016e",
		"format 0":                     "01 12 10 05 07 00",
		"format below 0":               "01 12 14 05 03 07 00",
		"pause of a key":               "01 05 08 01 01 00 0161 00",
		"fence 0":                      "01 07 10 01 00 00",
		"begin of nothing":             "01 06 00 01 00",
		"begin without a history":      "01 06 20 01 05 02 0807060504030201 0163",
		"begin of a key":               "01 06 20 01 05 02 0807060504030201 0163 0168 01 00 0161 00",
		"begin with a request":         "01 06 21 01 0100000000000000 01 00 05 02 0807060504030201 0163 0168 00",
		"put with a begin":             "01 01 20 01 05 02 0807060504030201 0163 0168 00",
		"standbys without a record":    "01 13 10 01 ac02 00",
		"standbys over index -1":       "01 13 06 01 0161 01 00",
		"seal for no promotion":        "01 14 10 01 ac02 00",
		"unseal of no promotion":       "01 15 00 01 00",
		"seal of a key":                "01 14 02 01 0170 01 00 0161 00",
		"seal with a request":          "01 14 03 01 0100000000000000 01 00 0170 00",
		"origin of no epoch":           "02 01 00 04 01 00",
		"origin cut short":             "02 06 20 04 01 05 02 0807060504030201 00 00 04312d6162 ac02 18171615 00",
		"member of nothing":            "01 08 00 01 00",
		"put with a member":            "01 01 40 01 03 0172 00",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := command.Decode(unhex(t, bytes))
			if !errors.Is(err, command.ErrMalformed) {
				t.Errorf("decoded %+v, %v", c, err)
			}
		})
	}
}

// No encoding is the beginning of another.
func TestCutShort(t *testing.T) {
	for _, g := range golden {
		p := unhex(t, g.hex)
		for n := range p {
			if _, err := command.Decode(p[:n]); !errors.Is(err, command.ErrMalformed) {
				t.Errorf("%s cut to %d bytes: %v", g.name, n, err)
			}
		}
	}
}

func TestMalformedMutations(t *testing.T) {
	for _, bad := range []string{"", "01", "01 00 00 00", "00 00", "02 00 0161 00", "8000"} {
		if ms, err := command.DecodeMutations(unhex(t, bad)); !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s decoded to %+v, %v", bad, ms, err)
		}
	}
	if ms, err := command.DecodeMutations([]byte{0}); err != nil || ms != nil {
		t.Errorf("none decoded to %+v, %v", ms, err)
	}
}

func TestMalformedResult(t *testing.T) {
	for _, bad := range []string{"", "01", "02 00 00 00", "01 00", "01 00 00", "01 00 00 00 00", "01 00 8000 00"} {
		if r, err := command.DecodeResult(unhex(t, bad)); !errors.Is(err, command.ErrMalformed) {
			t.Errorf("%s decoded to %+v, %v", bad, r, err)
		}
	}
}

// drawCommand draws any command that has an encoding.
func drawCommand(t *rapid.T) command.Command {
	bytes := func(min int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), min, 300) }
	c := command.Command{
		Kind:  rapid.SampledFrom(command.Kinds()).Draw(t, "kind"),
		Clock: kv.Clock(rapid.Uint64().Draw(t, "clock")),
		Delta: rapid.Int64().Draw(t, "delta"),
		Flag:  rapid.Bool().Draw(t, "flag"),
	}
	if e := bytes(0).Draw(t, "expect"); len(e) > 0 {
		c.Expect = e
	}
	if c.Kind < command.BeginEpoch && rapid.Bool().Draw(t, "request") {
		seq := rapid.Uint64Min(1).Draw(t, "sequence")
		c.Request = kv.RequestID{
			Client:   rapid.Uint64Min(1).Draw(t, "client"),
			Sequence: seq,
			Acked:    rapid.Uint64Max(seq-1).Draw(t, "acked"),
			Repeat:   rapid.Bool().Draw(t, "repeat"),
		}
	}
	if rapid.Bool().Draw(t, "fenced") {
		c.Fence = rapid.Uint64Min(1).Draw(t, "fence")
	}
	least, most := 0, 5
	switch c.Kind {
	case command.BeginEpoch:
		most = 0
		c.Begin = &command.Begin{
			Term: rapid.Uint64().Draw(t, "term"), Owner: rapid.Uint64().Draw(t, "owner"), Nonce: rapid.Uint64().Draw(t, "nonce"),
			Cluster: rapid.String().Draw(t, "cluster"), History: rapid.String().Draw(t, "history"),
		}
		if c.Begin.Stated = rapid.Bool().Draw(t, "stated"); c.Begin.Stated {
			c.Begin.Lease = time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "lease"))
		}
		if rapid.Bool().Draw(t, "after a promotion") {
			c.Begin.Origin = &command.Origin{
				History: rapid.String().Draw(t, "origin"), End: rapid.Uint64().Draw(t, "end"), Digest: rapid.Uint64().Draw(t, "digest"),
			}
		}
	case command.EndRestore:
		most = 0
		c.Restored = &command.Restored{
			Pairs:   rapid.Uint64().Draw(t, "pairs"),
			Index:   rapid.Uint64().Draw(t, "restored index"),
			History: rapid.String().Draw(t, "restored history"),
		}
	case command.SetMember:
		most = 0
		c.Member = &command.Member{ID: rapid.Uint64().Draw(t, "member"), Record: bytes(0).Draw(t, "record")}
	case command.CompareAndSet, command.Increment:
		least, most = 1, 1
	case command.SetSlave:
		most = 0
		c.Expect = drawSlave(t).Append(nil)
	case command.SetTiming:
		c.Expect, most = bytes(1).Draw(t, "timing"), 0
		c.Delta = rapid.Int64Min(0).Draw(t, "changed")
	case command.SetStandbys:
		c.Expect, most = bytes(1).Draw(t, "standbys"), 0
		c.Delta = rapid.Int64Min(0).Draw(t, "changed")
	case command.Seal, command.Unseal:
		c.Expect, most = rapid.SliceOfN(rapid.Byte(), 1, 128).Draw(t, "promotion"), 0
	case command.SetFormat:
		c.Delta, most = rapid.Int64Range(1, 1000).Draw(t, "format"), 0
	case command.SetClock:
		c.Clock, most = max(c.Clock, 1), 0
	case command.SetPaused, command.EndEpoch, command.BeginRestore, command.AbortRestore, command.SealRestore, command.Tick:
		most = 0
	}
	for range rapid.IntRange(least, most).Draw(t, "mutations") {
		m := kv.Mutation{Key: bytes(1).Draw(t, "key"), ExpireTS: rapid.Uint64().Draw(t, "expireTS")}
		if m.Delete = most > 1 && c.Kind != command.StageRestore && rapid.Bool().Draw(t, "delete"); !m.Delete {
			m.Value = bytes(0).Draw(t, "value")
		}
		c.Mutations = append(c.Mutations, m)
	}
	return c
}

func drawSlave(t *rapid.T) command.Slave {
	text := rapid.StringOf(rapid.RuneFrom(nil, unicode.Letter, unicode.Digit))
	return command.Slave{Zone: text.Draw(t, "zone"), Address: text.Draw(t, "host") + ":1"}
}

func TestSlaveRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSlave(t)
		if got, err := command.ParseSlave(want.Append(nil)); err != nil || got != want {
			t.Fatalf("parsed %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		encoded := c.Append(nil)
		got, err := command.Decode(encoded)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, c)
		}
		if again := got.Append(nil); !bytes.Equal(again, encoded) {
			t.Fatalf("encoded again as %x, was %x", again, encoded)
		}
		ms, err := command.DecodeMutations(command.AppendMutations(nil, c.Mutations))
		if err != nil || !reflect.DeepEqual(ms, c.Mutations) {
			t.Fatalf("mutations decoded %+v, %v; want %+v", ms, err, c.Mutations)
		}
	})
}

func TestResultRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := command.Result{
			Index:   rapid.Uint64().Draw(t, "index"),
			Code:    command.Code(rapid.Byte().Draw(t, "code")),
			Counter: rapid.Int64().Draw(t, "counter"),
		}
		if got, err := command.DecodeResult(command.AppendResult(nil, r)); err != nil || got != r {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, r)
		}
	})
}

// A flipped bit either is noticed or leads to another command: two encodings
// never mean the same.
func TestOneEncodingOnly(t *testing.T) {
	for _, g := range golden {
		p := unhex(t, g.hex)
		for i := range p {
			for bit := range 8 {
				q := slices.Clone(p)
				q[i] ^= 1 << bit
				if c, err := command.Decode(q); err == nil && reflect.DeepEqual(c, g.c) {
					t.Errorf("%s: %x and %x mean the same", g.name, p, q)
				}
			}
		}
	}
}

// What is appended to a decoded slice must not run into the next one.
func TestDecodedSlicesAreApart(t *testing.T) {
	c, err := command.Decode(unhex(t, "01 01 00 00 02 00 0161 0176 00 0162 0177"))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(c.Mutations[0].Key, 'x')
	_ = append(c.Mutations[0].Value, 'x')
	if string(c.Mutations[0].Value) != "v" || string(c.Mutations[1].Key) != "b" {
		t.Errorf("%+v", c.Mutations)
	}
}

// Size is an estimate; it must not be far below the encoding's length with
// present clocks and ordinary sequences.
func TestSize(t *testing.T) {
	c := command.Command{Kind: command.CompareAndSet, Clock: 1_700_000_000_000, Expect: make([]byte, 100)}
	c.Request = kv.RequestID{Client: math.MaxUint64, Sequence: 1_000_000, Acked: 999_999}
	for _, n := range []int{0, 1, 100, 100_000} {
		c.Mutations = []kv.Mutation{{Key: make([]byte, 16), Value: make([]byte, n), ExpireTS: 1_700_000_000}}
		encoded := len(c.Append(nil))
		if size := c.Size(); size < encoded || size > encoded+64 {
			t.Errorf("value of %d bytes: size %d, encoded in %d", n, size, encoded)
		}
	}
}

func TestStrings(t *testing.T) {
	for kind, want := range map[command.Kind]string{
		command.Write: "write", command.CompareAndSet: "compare-and-set", command.Increment: "increment",
		command.Expire: "expire", command.SetPaused: "set-paused", command.SetSlave: "set-slave", 99: "Kind(99)",
	} {
		if got := kind.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for code, want := range map[command.Code]string{
		command.OK: "ok", command.NotUpdated: "not updated", command.NotACounter: "not a counter",
		command.Overflow: "overflow", command.Paused: "paused", command.StaleRequest: "stale request", 99: "Code(99)",
	} {
		if got := code.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
