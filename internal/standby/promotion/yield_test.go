package promotion_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

func formerMaster(dir string, found ...promotion.Descent) *promotion.Former {
	return &promotion.Former{
		Dir: dir,
		Own: func() map[string]string { return map[string]string{"default": "2-aa"} },
		Led: func(string) bool { return false },
		Ask: func(context.Context, string) ([]promotion.Descent, error) { return found, nil },
		Log: slog.New(slog.DiscardHandler),
	}
}

// A master yields to a greater era that has its history, and to nothing else.
func TestMasterYieldsToADescendantOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		found promotion.Descent
		want  string
	}{
		{"a descendant", promotion.Descent{VBucket: "default", History: "3-bb", Ends: map[string]kv.Index{"2-aa": 70}}, ""},
		{"a descendant by way of a restore that this member has not applied", promotion.Descent{VBucket: "default", History: "3-bb", Ends: map[string]kv.Index{"2-aa": 0}}, ""},
		{"another database", promotion.Descent{VBucket: "default", History: "9-bb", Ends: map[string]kv.Index{"2-cc": 70}}, "does not succeed"},
		{"an equal era", promotion.Descent{VBucket: "default", History: "2-bb", Ends: map[string]kv.Index{"2-aa": 70}}, "does not succeed"},
		{"itself", promotion.Descent{VBucket: "default", History: "2-aa"}, promotion.ErrSame.Error()},
		{"another vBucket", promotion.Descent{VBucket: "0", History: "3-bb"}, "no vBucket default"},
	} {
		dir := t.TempDir()
		f := formerMaster(dir, c.found)
		err := f.Hear(t.Context(), []string{"n:1"}, false)
		part, readErr := promotion.Of(dir)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || part.Superseded != nil {
				t.Errorf("%s: %v, %+v", c.name, err, part.Superseded)
			}
			continue
		}
		if s := part.Superseded; err != nil || s == nil || s.Era != 3 || s.Ends["default"] != c.found.Ends["2-aa"] || s.Masters[0] != "n:1" {
			t.Errorf("%s: %v, %+v", c.name, err, s)
		}
		<-f.Yielded()
	}
}

// A log that still has an owner was not restored: a new database was made of a backup of this one.
func TestServingMasterDoesNotYieldToACopyOfItsBackup(t *testing.T) {
	dir := t.TempDir()
	f := formerMaster(dir, promotion.Descent{VBucket: "default", History: "3-bb", Ends: map[string]kv.Index{"2-aa": 0}})
	f.Led = func(string) bool { return true }
	err := f.Hear(t.Context(), []string{"n:1"}, false)
	if part, _ := promotion.Of(dir); err == nil || part.Superseded != nil {
		t.Errorf("%v, %+v", err, part.Superseded)
	}
}

// The greater era says what a node is.
func TestGreaterEraHolds(t *testing.T) {
	dir := t.TempDir()
	write := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write((&promotion.Record{ID: "p", Step: promotion.Done, Era: 3}).Write(dir))
	write((&promotion.Superseded{Era: 4}).Write(dir))
	if part, err := promotion.Of(dir); err != nil || part.Promotion != nil || part.Superseded.Era != 4 {
		t.Errorf("%+v, %v", part, err)
	}
	// A former master that is a slave stays that until a promotion of it is decided.
	for _, step := range []promotion.Step{promotion.Begun, promotion.Fenced, promotion.Sealed, promotion.Abandoning} {
		write((&promotion.Record{ID: "q", Step: step, Era: 5}).Write(dir))
		if part, err := promotion.Of(dir); err != nil || part.Superseded == nil || part.Promotion == nil || part.Promotion.ID != "q" {
			t.Errorf("%s: %+v, %v", step, part, err)
		}
	}
	for _, step := range []promotion.Step{promotion.Decided, promotion.Done} {
		write((&promotion.Record{ID: "q", Step: step, Era: 5}).Write(dir))
		if part, err := promotion.Of(dir); err != nil || part.Superseded != nil || part.Promotion == nil {
			t.Errorf("%s: %+v, %v", step, part, err)
		}
	}
}

// A former master that is down is told again until it acknowledges.
func TestNoticesAreRepeated(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		told := 0
		tell := func(context.Context, string) ([]string, error) {
			if told++; told < 10 {
				return nil, unreachable
			}
			return nil, nil
		}
		begun := time.Now()
		r := promotion.Record{ID: "p", Step: promotion.Done, Era: 1, Masters: []string{"m:1"}}
		if err := (&promotion.Successor{Dir: dir, Yield: tell, Log: slog.New(slog.DiscardHandler)}).Run(t.Context(), r); err != nil || told != 10 {
			t.Error(told, err)
		}
		if took := time.Since(begun); took < 30*time.Second || took > 5*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
	if part, err := promotion.Of(dir); err != nil || len(part.Promotion.Masters) != 0 {
		t.Errorf("%+v, %v", part.Promotion, err)
	}
}

// Slaves that a promotion which was given up has left sealed are unsealed by the master that a later
// one has made: they would follow no master for ever. Its masters yield too.
func TestSealsOfEarlierPromotionsEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ended, yielded []string
		tries := 0
		successor := promotion.Successor{Dir: dir, Log: slog.New(slog.DiscardHandler),
			Yield: func(_ context.Context, master string) ([]string, error) {
				mu.Lock()
				defer mu.Unlock()
				yielded = append(yielded, master)
				return nil, nil
			},
			Unseal: func(_ context.Context, address, id string) error {
				if tries++; tries < 3 {
					return unreachable
				}
				ended = append(ended, address+" "+id)
				return nil
			},
		}
		r := promotion.Record{ID: "p", Step: promotion.Done, Era: 1, Earlier: []promotion.Left{{ID: "q", Slaves: []string{"s:1"}, Masters: []string{"m:1"}, Stopped: []string{"m:2"}}}}
		if err := successor.Run(t.Context(), r); err != nil || !slices.Equal(ended, []string{"s:1 q"}) || !slices.Contains(yielded, "m:1") || !slices.Contains(yielded, "m:2") {
			t.Error(err, ended, yielded)
		}
	})
	if part, err := promotion.Of(dir); err != nil || len(part.Promotion.Earlier) != 0 {
		t.Errorf("%+v, %v", part.Promotion, err)
	}
}

// What a former master has told of its cluster can be asked again: the one that asked may have
// crashed before it wrote that down.
func TestMembersOfAFormerMasterAreKept(t *testing.T) {
	dir := t.TempDir()
	f := formerMaster(dir, promotion.Descent{VBucket: "default", History: "3-bb", Ends: map[string]kv.Index{"2-aa": 70}})
	f.Members = func() []string { return []string{"m:2", "m:3"} }
	if err := f.Hear(t.Context(), []string{"n:1"}, false); err != nil {
		t.Fatal(err)
	}
	if part, err := promotion.Of(dir); err != nil || !slices.Equal(part.Superseded.Members, []string{"m:2", "m:3"}) {
		t.Errorf("%+v, %v", part.Superseded, err)
	}
}
