package slave

import "testing"

func TestStreamWindow(t *testing.T) {
	for vBuckets, want := range map[int]int32{0: 16 << 20, 1: 16 << 20, 4: 16 << 20, 64: 1 << 20, 1024: 256 << 10} {
		if got := streamWindow(vBuckets); got != want {
			t.Errorf("%d vBuckets: %d bytes, want %d", vBuckets, got, want)
		}
	}
}
