package sleep

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !For(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("an hour has taken %v", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if For(ctx, time.Hour) || time.Since(begin) != time.Hour+time.Minute {
			t.Errorf("it did not end with its context, but after %v", time.Since(begin)-time.Hour)
		}
	})
}

func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		time.Sleep(time.Minute)
		if d := Since(begin); d != time.Minute {
			t.Errorf("a minute has taken %v", d)
		}
	})
	begin := time.Now()
	if d := Since(testkit.Suspended(t, begin, time.Hour)); d < time.Hour {
		t.Errorf("an hour of sleep has taken %v", d)
	}
	if d := Since(testkit.Suspended(t, begin, -time.Hour)); d < 0 {
		t.Errorf("%v since the wall clock was set back", d)
	}
}
