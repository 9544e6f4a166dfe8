package command_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
)

// What decodes has one encoding only, the one that it was decoded from; all
// else is ErrMalformed, or ErrNewer.

func FuzzDecode(f *testing.F) {
	for _, g := range golden {
		f.Add(unhex(f, g.hex))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := command.Decode(p)
		switch {
		case err != nil && !errors.Is(err, command.ErrMalformed) && !errors.Is(err, command.ErrNewer):
			t.Fatalf("error is none of those: %v", err)
		case err == nil && !bytes.Equal(c.Append(nil), p):
			t.Fatalf("%x decodes to %+v, which encodes as %x", p, c, c.Append(nil))
		}
	})
}

func FuzzDecodeMutations(f *testing.F) {
	for _, g := range golden {
		f.Add(command.AppendMutations(nil, g.c.Mutations))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		ms, err := command.DecodeMutations(p)
		switch {
		case err != nil && !errors.Is(err, command.ErrMalformed):
			t.Fatalf("error is no ErrMalformed: %v", err)
		case err == nil && !bytes.Equal(command.AppendMutations(nil, ms), p):
			t.Fatalf("%x decodes to %+v, which encodes otherwise", p, ms)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	f.Add(command.AppendResult(nil, command.Result{Index: 300, Code: command.Overflow, Counter: -5}))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := command.DecodeResult(p)
		switch {
		case err != nil && !errors.Is(err, command.ErrMalformed):
			t.Fatalf("error is no ErrMalformed: %v", err)
		case err == nil && !bytes.Equal(command.AppendResult(nil, r), p):
			t.Fatalf("%x decodes to %+v, which encodes otherwise", p, r)
		}
	})
}
