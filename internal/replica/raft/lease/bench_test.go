package lease

import (
	"testing"
	"time"
)

// owning returns a Keeper that holds a lease, without anything running.
func owning(clock Clock) *Keeper {
	k := New(nil, Options{Length: time.Hour, Clock: clock})
	t := &tenure{epoch: 1, term: 1, lease: time.Hour}
	k.active.Store(t)
	k.extend(t, k.o.Clock.Now()+time.Hour)
	return k
}

func read(k *Keeper) bool {
	l, ok := k.Take()
	return ok && l.Valid()
}

func TestReadDoesNotAllocate(t *testing.T) {
	k := owning(SystemClock{})
	if n := testing.AllocsPerRun(1000, func() {
		if !read(k) {
			t.Fatal("no lease")
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func BenchmarkRead(b *testing.B) {
	k := owning(SystemClock{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !read(k) {
				b.Fatal("no lease")
			}
		}
	})
}

func BenchmarkReadOneCore(b *testing.B) {
	k := owning(SystemClock{})
	b.ReportAllocs()
	for b.Loop() {
		if !read(k) {
			b.Fatal("no lease")
		}
	}
}

func BenchmarkClock(b *testing.B) {
	for b.Loop() {
		SystemClock{}.Now()
	}
}
