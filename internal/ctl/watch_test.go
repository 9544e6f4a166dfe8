package ctl

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// changed is a fake with five changes, of which the third is a batch.
func changed(t *testing.T) *fake {
	f := startFake(t)
	f.put("a1", "x")
	f.put("b1", "y")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.apply(putTrxn([]byte("a2"), []byte("p"), 0), putTrxn([]byte("b2"), []byte("q"), 99))
	f.apply(&serverpb.TrxnRecord{Type: serverpb.TrxnRecord_Delete, Key: []byte("a1")})
	f.apply(putTrxn([]byte("a3"), []byte("\xff"), 0))
	return f
}

func TestWatchFromTheBeginning(t *testing.T) {
	f := changed(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-watch", "-from", "0", "-limit", "6"}, "1 put a1 => x\n2 put b1 => y\n3 put a2 => p\n3 put b2 => q\n4 del a1\n5 put a3 => \xff\n"},
		{[]string{"-watch", "*", "-from", "1", "-limit", "2"}, "1 put a1 => x\n2 put b1 => y\n"},
		{[]string{"watch", "a*", "-from", "2", "-limit", "3"}, "3 put a2 => p\n4 del a1\n5 put a3 => \xff\n"},
		{[]string{"-watch", "-from", "3", "-limit", "1", "-vBucket", "default"}, "3 put a2 => p\n"},
		{[]string{"-watch", "-from", "4", "-limit", "2", "-o", "json"},
			`{"index":4,"clock":4000,"type":"del","key":"a1"}` + "\n" + `{"index":5,"clock":5000,"type":"put","key":"a3","value_base64":"/w=="}` + "\n"},
	}
	for _, tt := range tests {
		expect(t, dkvctl(t, f.addr, tt.args...), outcome{stdout: tt.want})
	}
	f.oldest = 4
	expect(t, dkvctl(t, f.addr, "-watch", "-from", "0", "-limit", "1"), outcome{stdout: "4 del a1\n"})
	expect(t, dkvctl(t, f.addr, "-watch", "-from", "2"),
		outcome{code: 1, stderr: "change 2 is not retained: OutOfRange: the oldest retained change is 4; -from 0 begins"})
	expect(t, dkvctl(t, f.addr, "-watch", "-vBucket", "other"), outcome{code: 1, stderr: `does not hold vBucket "other": it holds default`})
}

// Without -from only what comes later is printed. The fake makes a change each
// time it has been asked; an interrupt ends the watch with success.
func TestWatchNewChangesUntilInterrupted(t *testing.T) {
	f := changed(t)
	ctx, interrupt := context.WithCancel(t.Context())
	asked := 0
	f.onChanges = func() {
		if asked++; asked == 1 {
			f.put("new", "1")
		} else if asked == 3 {
			interrupt()
		}
	}
	got := runMain(ctx, "", nil, "-a", f.addr, "-watch", "-poll", "1ms")
	expect(t, got, outcome{stdout: "6 put new => 1\n"})
}

// A watch prints what it has before it waits, not when its buffer is full.
func TestWatchDoesNotHoldBackChanges(t *testing.T) {
	f := changed(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var once sync.Once
	var got string
	out := writerFunc(func(p []byte) (int, error) {
		once.Do(func() { got = string(p); interrupt() })
		return len(p), nil
	})
	code := Main(ctx, []string{"-a", f.addr, "-watch", "-from", "5", "-poll", "1ms"}, func(string) (string, bool) { return "", false },
		strings.NewReader(""), out, &bytes.Buffer{})
	if code != exitOK || got != "5 put a3 => \xff\n" {
		t.Errorf("code %d, printed %q", code, got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Changes without effect leave gaps in the numbers.
func TestWatchSkipsNumbersWithoutEffect(t *testing.T) {
	f := changed(t)
	asked := 0
	f.onChanges = func() {
		switch asked++; asked {
		case 1:
			f.mu.Lock()
			f.index = 10 // five entries that changed nothing
			f.mu.Unlock()
		case 2:
			f.put("later", "1")
		}
	}
	expect(t, dkvctl(t, f.addr, "-watch", "-limit", "1", "-poll", "1ms"), outcome{stdout: "11 put later => 1\n"})
	if want := []uint64{6, 6, 11}; !slices.Equal(f.froms, want) {
		t.Errorf("it asked for changes from %d on, want %d: what is known to be empty is not asked for again", f.froms, want)
	}
}

func TestWatchGoesOnWithAnotherNode(t *testing.T) {
	first, second := changed(t), changed(t)
	asked := 0
	first.onChanges = func() {
		asked++
		first.mu.Lock()
		defer first.mu.Unlock()
		first.fail = func(string) error { return status.Error(codes.Unavailable, "going down") }
	}
	want := "1 put a1 => x\n2 put b1 => y\n3 put a2 => p\n3 put b2 => q\n4 del a1\n5 put a3 => \xff\n"
	expect(t, dkvctl(t, first.addr+","+second.addr, "-watch", "-from", "0", "-limit", "6"), outcome{stdout: want})
	if asked != 1 || second.calls("GetChanges") == 0 {
		t.Errorf("the first node answered %d times, the second %d", asked, second.calls("GetChanges"))
	}
}

func TestWatchStopsAtAnotherHistory(t *testing.T) {
	f := changed(t)
	f.onChanges = func() {
		f.mu.Lock()
		f.history = "h2"
		f.mu.Unlock()
	}
	expect(t, dkvctl(t, f.addr, "-watch", "-poll", "1ms"), outcome{code: 1, stderr: "the database was replaced"})
}
