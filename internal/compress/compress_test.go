package compress

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEncodedComesBack, and what does not shrink is not encoded.
func TestEncodedComesBack(t *testing.T) {
	text := bytes.Repeat([]byte("the same value, "), 4096)
	packed := Encode(text)
	if len(packed) == 0 || len(packed) > len(text)/10 {
		t.Fatalf("%d bytes of %d", len(packed), len(text))
	}
	if got, err := Decode(packed); err != nil || !bytes.Equal(got, text) {
		t.Fatal(len(got), err)
	}
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.New(rand.NewPCG(1, uint64(i))).Uint32())
	}
	if got := Encode(noise); got != nil {
		t.Errorf("noise of %d bytes is sent as %d", len(noise), len(got))
	}
	if got := Encode([]byte("short")); got != nil {
		t.Errorf("%q", got)
	}
	if _, err := Decode([]byte("not compressed")); err == nil {
		t.Error("anything can be read")
	}
}
