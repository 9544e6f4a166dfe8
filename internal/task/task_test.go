package task

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l List
		ctx, end := l.Begin(context.Background(), Backup, "nightly")
		Part(ctx, 2, 16)
		Step(ctx, "is checked", "", 0)
		Add(ctx, 5)
		time.Sleep(2 * time.Second)
		Step(ctx, "is copied", Bytes, 100)
		time.Sleep(time.Second)
		Add(ctx, 30)
		want := State{Kind: Backup, Subject: "nightly", Step: "is copied", Part: 2, Parts: 16, Done: 30, Total: 100, Unit: Bytes,
			Elapsed: 3 * time.Second, InStep: time.Second}
		if got := l.Running(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		end()
		if got := l.Running(); got != nil {
			t.Errorf("%+v after the end", got)
		}
	})
}

// TestMoreThanEstimated raises a total that was an estimate.
func TestMoreThanEstimated(t *testing.T) {
	var l List
	ctx, end := l.Begin(context.Background(), Verify, "")
	defer end()
	Step(ctx, "is hashed", Keys, 10)
	Add(ctx, 12)
	if got := l.Running()[0]; got.Done != 12 || got.Total != 12 {
		t.Errorf("%+v", got)
	}
}

// TestSeveral keeps the order in which they began, and each its own steps.
func TestSeveral(t *testing.T) {
	var l List
	first, endFirst := l.Begin(context.Background(), Backup, "a")
	second, endSecond := l.Begin(context.Background(), Backup, "b")
	defer endSecond()
	Step(first, "is copied", Bytes, 1)
	Step(second, "is checked", "", 0)
	if got := l.Running(); len(got) != 2 || got[0].Step != "is copied" || got[1].Step != "is checked" {
		t.Errorf("%+v", got)
	}
	endFirst()
	if got := l.Running(); len(got) != 1 || got[0].Subject != "b" {
		t.Errorf("%+v", got)
	}
}

// TestWithoutList does the work all the same.
func TestWithoutList(t *testing.T) {
	var none *List
	ctx, end := none.Begin(context.Background(), Backup, "a")
	defer end()
	Part(ctx, 1, 2)
	Step(ctx, "is copied", Bytes, 1)
	Add(ctx, 1)
	if got := none.Running(); got != nil {
		t.Errorf("%+v", got)
	}
}
