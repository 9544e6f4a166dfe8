package changelog_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// model is the changelog as a list, oldest first, trimmed at floor.
type model struct {
	changes []kv.Change
	newest  kv.Index
	clock   kv.Clock
	floor   kv.Index
}

func (o *model) from(index kv.Index) []kv.Change {
	for i, c := range o.changes {
		if c.Index >= index {
			return o.changes[i:]
		}
	}
	return nil
}

func (o *model) size(floor kv.Index) uint64 {
	n := uint64(0)
	for _, c := range o.from(floor) {
		n += uint64(8 + len(command.AppendMutations(nil, c.Mutations)))
	}
	return n
}

// keeps reports whether retention keeps everything from floor on.
func (o *model) keeps(ret changelog.Retention, floor kv.Index) bool {
	rest := o.from(floor)
	if len(rest) == 0 {
		return true
	}
	if ret.MaxBytes != 0 && len(rest) > 1 && o.size(floor) > ret.MaxBytes {
		return false
	}
	return ret.MaxAge == 0 || o.clock-rest[0].Clock <= kv.Clock(ret.MaxAge/time.Millisecond)
}

func drawMutation(t *rapid.T) kv.Mutation {
	m := kv.Mutation{Key: rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "key")}
	if m.Delete = rapid.Bool().Draw(t, "delete"); !m.Delete {
		m.Value = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")
		m.ExpireTS = rapid.Uint64().Draw(t, "expireTS")
	}
	return m
}

func (o *model) draw(t *rapid.T) []kv.Change {
	var out []kv.Change
	for range rapid.IntRange(1, 6).Draw(t, "entries") {
		o.newest++
		o.clock += kv.Clock(rapid.IntRange(0, 3000).Draw(t, "clock"))
		if rapid.IntRange(0, 2).Draw(t, "effect") == 0 {
			continue
		}
		ms := rapid.SliceOfN(rapid.Custom(drawMutation), 1, 3).Draw(t, "mutations")
		c := kv.Change{Index: o.newest, Clock: o.clock, Mutations: ms}
		if rapid.Bool().Draw(t, "request") {
			c.Request = &kv.ChangeRequest{ID: kv.RequestID{Client: rapid.Uint64Min(1).Draw(t, "client"), Sequence: rapid.Uint64().Draw(t, "sequence")}, Counter: rapid.Int64().Draw(t, "counter")}
		}
		out = append(out, c)
	}
	return out
}

func drawRetention(t *rapid.T) changelog.Retention {
	return changelog.Retention{
		MaxBytes: rapid.Uint64Range(0, 500).Draw(t, "maxBytes"),
		MaxAge:   time.Duration(rapid.IntRange(0, 30_000).Draw(t, "maxAge")) * time.Millisecond,
	}
}

// TestModel appends, scans and trims at random, beside a list that does.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, o := newLog(t), &model{floor: 1}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				changes := o.draw(t)
				if rapid.Bool().Draw(t, "shared") {
					l.append(changes...)
				} else {
					l.each(changes...)
				}
				o.changes = append(o.changes, changes...)
			},
			"scan": func(t *rapid.T) {
				from := rapid.Uint64Range(o.floor, o.newest+2).Draw(t, "from")
				limit := rapid.IntRange(0, 10).Draw(t, "limit")
				want := o.from(from)
				if limit > 0 && len(want) > limit {
					want = want[:limit]
				}
				got := l.scan(from, limit, math.MaxInt)
				if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
					t.Fatalf("from %d, at most %d: %+v, want %+v", from, limit, got, want)
				}
				cut := l.scan(from, limit, rapid.IntRange(0, 500).Draw(t, "maxBytes"))
				if len(cut) > len(got) || len(got) > 0 && !reflect.DeepEqual(cut, got[:max(1, len(cut))]) {
					t.Fatalf("cut at a number of bytes: %v of %v", indexes(cut), indexes(got))
				}
			},
			"trim": func(t *rapid.T) {
				ret := drawRetention(t)
				want := o.floor
				for !o.keeps(ret, want) {
					want++
				}
				if got := l.floor(ret, o.floor, o.newest, o.clock); got != want {
					t.Fatalf("%+v: floor %d, want %d", ret, got, want)
				}
				var b storage.Batch
				b.DeleteRange(storage.Changelog, changelog.Key(o.floor), changelog.Key(want))
				l.write(&b)
				o.floor, o.changes = want, o.from(want)
			},
			"ends": func(t *rapid.T) {
				upTo := rapid.Uint64Range(o.floor, o.newest+2).Draw(t, "upTo")
				want := uint64(0)
				for i := range o.changes {
					if o.changes[i].Index <= upTo {
						want = changelog.Digest(&o.changes[i])
					}
				}
				// What lies below the floor, in a record with what is above, is no error: it is true as well.
				got, err := changelog.DigestAt(l.engine, upTo)
				if err != nil || got != want && (want != 0 || len(o.changes) == 0) {
					t.Fatalf("the digest up to %d is %x, %v, want %x", upTo, got, err, want)
				}
				newest, found, err := changelog.Newest(l.engine)
				if err != nil || found != (len(o.changes) > 0) || found && newest != o.changes[len(o.changes)-1].Index {
					t.Fatalf("newest %d, %v, %v", newest, found, err)
				}
				oldest, found, err := changelog.Oldest(l.engine, upTo)
				rest := o.from(upTo)
				if err != nil || found != (len(rest) > 0) || found && oldest != rest[0].Index {
					t.Fatalf("oldest from %d: %d, %v, %v", upTo, oldest, found, err)
				}
			},
			"": func(t *rapid.T) {
				if got, want := l.size(o.floor), o.size(o.floor); got != want {
					t.Fatalf("%d bytes, want %d", got, want)
				}
			},
		})
	})
}
