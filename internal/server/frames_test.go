package server

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// Frames are found whichever way the bytes are cut.
func TestFramesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire bytes.Buffer
		wire.WriteString(http2.ClientPreface)
		framer := http2.NewFramer(&wire, nil)
		var want []frame
		for range rapid.IntRange(0, 20).Draw(t, "frames") {
			stream := rapid.Uint32Range(1, 1<<31-1).Draw(t, "stream")
			payload := make([]byte, rapid.IntRange(0, 70).Draw(t, "length"))
			end := rapid.Bool().Draw(t, "end")
			kind, flags := byte(frameData), byte(0)
			if end {
				flags = flagEndStream
			}
			var err error
			if rapid.Bool().Draw(t, "headers") {
				kind = frameHeaders
				err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: payload, EndStream: end})
			} else {
				err = framer.WriteData(stream, end, payload)
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, frame{kind: kind, flags: flags, stream: stream, length: len(payload)})
		}
		f := frames{skip: prefaceBytes}
		var got []frame
		for rest := wire.Bytes(); len(rest) > 0; {
			n := min(rapid.IntRange(1, 40).Draw(t, "cut"), len(rest))
			for p := rest[:n]; ; {
				head, after, done := f.next(p)
				if !done {
					break
				}
				got, p = append(got, head), after
			}
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("found %v, want %v", got, want)
		}
	})
}

// TestRequestsCauseNoPings: a ping for each message would cost both ends more system calls
// than the message does.
func TestRequestsCauseNoPings(t *testing.T) {
	r := newRig(t)
	c := r.attack(1<<20, true)
	value := bytes.Repeat([]byte("v"), 1<<10)
	for range 5 {
		if _, ok := c.Call(serverpb.DKV_Put_FullMethodName, &serverpb.PutRequest{Key: []byte("k"), Value: value}); !ok {
			t.Fatal("the connection is closed")
		}
		if end := <-c.Ends; end.Code != codes.OK && end.Code != codes.Unimplemented {
			t.Fatal(end)
		}
	}
	if n := c.Pings.Load(); n > 0 {
		t.Errorf("%d pings", n)
	}
}
