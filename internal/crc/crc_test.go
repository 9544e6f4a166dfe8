package crc

import "testing"

// The value is that of RFC 3720, appendix B.4: files and other nodes rely on it.
func TestSumIsCRC32C(t *testing.T) {
	const want = 0x8a9136aa
	zeros := make([]byte, 32)
	if got := Sum(zeros); got != want {
		t.Errorf("Sum of 32 zero bytes is %#x, want %#x", got, want)
	}
	if got := Extend(Sum(zeros[:10]), zeros[10:]); got != want {
		t.Errorf("Extend gives %#x, want %#x", got, want)
	}
	h := New()
	_, _ = h.Write(zeros) // never fails
	if got := h.Sum32(); got != want {
		t.Errorf("New gives %#x, want %#x", got, want)
	}
}
