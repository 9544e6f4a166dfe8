package command_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

func TestFormat(t *testing.T) {
	id := kv.RequestID{Client: 1, Sequence: 1}
	repeat := id
	repeat.Repeat = true
	for _, c := range []struct {
		command command.Command
		want    uint32
	}{
		{command.Command{Kind: command.Write}, 1},
		{command.Command{Kind: command.Write, Request: id}, 1},
		{command.Command{Kind: command.Write, Request: repeat}, 2},
		{command.Command{Kind: command.SetSlave}, 1},
		{command.Command{Kind: command.BeginEpoch, Begin: &command.Begin{}}, 1},
		{command.Command{Kind: command.BeginEpoch, Begin: &command.Begin{Stated: true}}, 2},
		{command.Command{Kind: command.BeginEpoch, Begin: &command.Begin{Origin: &command.Origin{}}}, 4},
		{command.Command{Kind: command.Tick}, 2},
		{command.Command{Kind: command.SetClock}, 2},
		{command.Command{Kind: command.SetFormat, Delta: 1}, 2},
		{command.Command{Kind: command.SetTiming}, 3},
		{command.Command{Kind: command.SetStandbys}, 4},
		{command.Command{Kind: command.Seal}, 4},
		{command.Command{Kind: command.Unseal}, 4},
	} {
		if got := c.command.Format(); got != c.want {
			t.Errorf("%v %+v is of format %d, want %d", c.command.Kind, c.command, got, c.want)
		}
	}
	newest := uint32(0)
	for _, k := range command.Kinds() {
		newest = max(newest, (&command.Command{Kind: k}).Format())
	}
	if newest > command.NewestFormat {
		t.Errorf("there are kinds of format %d; NewestFormat is %d", newest, command.NewestFormat)
	}
}

// What is of format 1 is what the first release wrote: version 1 of the encoding, and
// no kind above 13.
func TestFirstFormat(t *testing.T) {
	for _, g := range golden {
		first := unhex(t, g.hex)[0] == 1 && g.c.Kind <= 13
		if (g.c.Format() == command.FirstFormat) != first {
			t.Errorf("%s is of format %d", g.name, g.c.Format())
		}
	}
}

// What a newer release has written is told from damage.
func TestNewer(t *testing.T) {
	for name, bytes := range map[string]string{
		"kind": "01 20 00 00 00", "version": "03 01 00 00 00", "further flags": "02 01 00 40 00 00",
	} {
		_, err := command.Decode(unhex(t, bytes))
		if !errors.Is(err, command.ErrNewer) || errors.Is(err, command.ErrMalformed) {
			t.Errorf("a newer %s: %v", name, err)
		}
	}
}

// The release to come of tests writes what this one does not know, in its own format only.
func TestForesee(t *testing.T) {
	write := &command.Command{Kind: command.Write, Clock: 1, Mutations: []kv.Mutation{{Key: []byte("k")}}}
	present := write.Append(nil)
	end := command.Foresee()
	next := write.Append(nil)
	command.ForLog(next, command.NewestFormat)
	if !bytes.Equal(next, present) {
		t.Errorf("in the present format it writes %x, not %x", next, present)
	}
	command.ForLog(next, command.Newest())
	if c, err := command.Decode(next); err != nil || c.Kind != command.Write || command.Newest() != command.NewestFormat+1 {
		t.Errorf("it reads %v, %v", c.Kind, err)
	}
	end()
	if _, err := command.Decode(next); !errors.Is(err, command.ErrNewer) {
		t.Errorf("the present release reads %v", err)
	}
	if command.ForLog(present, command.NewestFormat+1); present[1] != byte(command.Write) || command.Newest() != command.NewestFormat {
		t.Error("the release to come has not ended")
	}
}

func TestForget(t *testing.T) {
	encoded := (&command.Command{Kind: command.Tick, Clock: 1}).Append(nil)
	recall := command.Forget(command.Tick)
	if _, err := command.Decode(encoded); !errors.Is(err, command.ErrNewer) {
		t.Errorf("a kind that is not known: %v", err)
	}
	recall()
	if _, err := command.Decode(encoded); err != nil {
		t.Error(err)
	}
}
