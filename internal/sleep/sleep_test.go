package sleep

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
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
