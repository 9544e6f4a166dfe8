package bench

import (
	"bytes"
	"math"
	"testing"
)

func TestWriteKeyFillsTheWholeKey(t *testing.T) {
	tests := []struct {
		size   int
		prefix string
		index  uint64
		want   string
	}{
		{8, "k", 0, "k0000000"},
		{8, "k", 42, "k0000042"},
		{8, "user/", 999, "user/999"},
		{4, "", 9999, "9999"},
	}
	for _, tt := range tests {
		key := bytes.Repeat([]byte{'x'}, tt.size)
		writeKey(key, tt.prefix, tt.index)
		if string(key) != tt.want {
			t.Errorf("writeKey(%d, %q, %d) = %q, want %q", tt.size, tt.prefix, tt.index, key, tt.want)
		}
	}
}

func TestFitsDecimal(t *testing.T) {
	tests := []struct {
		n      uint64
		digits int
		want   bool
	}{
		{0, 1, true}, {9, 1, true}, {10, 1, false}, {99999, 5, true}, {100000, 5, false}, {0, 0, false}, {1, -3, false},
		{math.MaxUint64, 20, true}, {math.MaxUint64, 19, false},
	}
	for _, tt := range tests {
		if got := fitsDecimal(tt.n, tt.digits); got != tt.want {
			t.Errorf("fitsDecimal(%d, %d) = %v", tt.n, tt.digits, got)
		}
	}
}

func TestValuesAreRepeatableAndDiffer(t *testing.T) {
	a, b := newValues(100, 7), newValues(100, 7)
	other := newValues(100, 8)
	distinct := make(map[string]bool)
	for n := range uint64(1000) {
		v := a.ofKey(n)
		if len(v) != 100 {
			t.Fatalf("value %d has %d bytes", n, len(v))
		}
		if !bytes.Equal(v, b.ofKey(n)) {
			t.Fatalf("value %d differs between two generators with one seed", n)
		}
		if bytes.Equal(v, other.ofKey(n)) {
			t.Fatalf("value %d is the same for another seed", n)
		}
		distinct[string(v)] = true
	}
	if len(distinct) < 990 {
		t.Errorf("only %d of 1000 values differ", len(distinct))
	}
	if len(newValues(0, 1).at(5)) != 0 {
		t.Error("empty values are not empty")
	}
}

// The generator is an approximation; its most popular ranks are exact.
func TestZipfFollowsItsLaw(t *testing.T) {
	const n, theta, draws = 1000, 0.99, 400_000
	z := newZipf(n, theta)
	cfg := Config{Seed: 3, Keys: n}
	c := newChooser(&cfg, nil, 0)
	counts := make([]int, n)
	for range draws {
		counts[z.rank(c.rand.Float64())]++
	}
	zeta := 0.0
	for i := 1; i <= n; i++ {
		zeta += math.Pow(float64(i), -theta)
	}
	for _, rank := range []int{0, 1} {
		want := math.Pow(float64(rank+1), -theta) / zeta * draws
		if got := float64(counts[rank]); math.Abs(got-want) > want*0.05 {
			t.Errorf("rank %d was drawn %.0f times, want about %.0f", rank, got, want)
		}
	}
	sum := func(from, to int) (total float64) {
		for _, c := range counts[from:to] {
			total += float64(c)
		}
		return total / draws
	}
	tail := 0.0
	for i := 101; i <= n; i++ {
		tail += math.Pow(float64(i), -theta) / zeta
	}
	if got := sum(100, n); math.Abs(got-tail) > 0.05 {
		t.Errorf("the ranks from 100 on have a share of %.3f, want about %.3f", got, tail)
	}
}

func TestChooserStaysInsideTheKeys(t *testing.T) {
	for _, theta := range []float64{0, 0.5, 0.99} {
		cfg := Config{Seed: 1, Keys: 7, Zipf: theta}
		var z *zipf
		if theta > 0 {
			z = newZipf(cfg.Keys, theta)
		}
		c := newChooser(&cfg, z, 0)
		for range 10_000 {
			if n := c.next(); n >= cfg.Keys {
				t.Fatalf("theta %g chose key %d of %d", theta, n, cfg.Keys)
			}
		}
	}
	one := newZipf(1, 0.99)
	for _, u := range []float64{0, 0.5, 0.999999} {
		if r := one.rank(u); r != 0 {
			t.Errorf("the only key has rank 0, not %d", r)
		}
	}
}

func TestWorkersChooseDifferently(t *testing.T) {
	cfg := Config{Seed: 1, Keys: 1 << 40}
	a, b, again := newChooser(&cfg, nil, 0), newChooser(&cfg, nil, 1), newChooser(&cfg, nil, 0)
	if x, y := a.next(), b.next(); x == y {
		t.Errorf("two workers both chose %d", x)
	}
	again.next()
	if x, y := a.next(), again.next(); x != y {
		t.Errorf("the same seed and worker chose %d, then %d", x, y)
	}
}
