package ctl

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/signal"
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
	t.Run("of a node that sends changes", func(t *testing.T) { watchFromTheBeginning(t, true) })
	t.Run("of the earlier system", func(t *testing.T) { watchFromTheBeginning(t, false) })
}

func watchFromTheBeginning(t *testing.T, sends bool) {
	f := changed(t)
	f.sends = sends
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
	if asked := f.calls("GetChanges"); (asked == 0) != sends {
		t.Errorf("it asked for changes %d times", asked)
	}
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

// watching is what makes a fake serve WatchChanges.
type watching struct {
	sends   bool // else it is of the earlier system
	watched []*serverpb.WatchChangesRequest
	// onSent is called after each message, and ends the stream by its error.
	onSent func(*serverpb.GetChangesResponse) error
	news   signal.Signal // of each change
	age    uint64        // in milliseconds, that it says
	// ended are the last changes of former histories that the present one has.
	ended map[string]uint64
}

// WatchChanges sends changes as a node does, two in a message at most.
func (f *fake) WatchChanges(r *serverpb.WatchChangesRequest, stream grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	f.mu.Lock()
	f.watched = append(f.watched, r)
	sends, next, newest, oldest, history := f.sends, r.GetFromChangeNumber(), f.index, f.oldest, r.GetHistoryId()
	if end := f.ended[history]; r.LastChange != nil && r.GetLastChange() <= end {
		next, history = min(next, end+1), f.history
	}
	f.mu.Unlock()
	if next == 0 {
		next = newest + 1
	}
	switch {
	case !sends:
		return status.Error(codes.Unimplemented, "unknown method WatchChanges")
	case next > newest+1:
		return status.Errorf(codes.FailedPrecondition, "the newest change here is %d", newest)
	case next < oldest:
		return status.Errorf(codes.OutOfRange, "the oldest retained change is %d", oldest)
	}
	for {
		changed := f.news.Changed()
		f.mu.Lock()
		res, onSent := f.stretch(next, r.GetKeyPrefix()), f.onSent
		newest = f.index
		f.mu.Unlock()
		if history == "" {
			history = res.HistoryId
		}
		if res.HistoryId != history {
			return status.Errorf(codes.FailedPrecondition, "the history here is %s", res.HistoryId)
		}
		if err := stream.Send(res); err != nil {
			return err
		}
		if onSent != nil {
			if err := onSent(res); err != nil {
				return err
			}
		}
		if next = res.MasterChangeNumber + 1; next <= newest {
			continue
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// stretch returns what follows of the changes of some keys. It needs f.mu.
func (f *fake) stretch(next uint64, prefix []byte) *serverpb.GetChangesResponse {
	res := &serverpb.GetChangesResponse{HistoryId: f.history, MasterChangeNumber: f.index, AgeMillis: f.age}
	read := 0
	for _, c := range f.changes {
		if c.ChangeNumber < next {
			continue
		}
		if read++; read > 2 {
			break
		}
		res.MasterChangeNumber = c.ChangeNumber
		own := &serverpb.ChangeRecord{ChangeNumber: c.ChangeNumber, Clock: c.Clock}
		for _, x := range c.Trxns {
			if bytes.HasPrefix(x.Key, prefix) {
				own.Trxns = append(own.Trxns, x)
			}
		}
		if len(own.Trxns) > 0 {
			res.Changes = append(res.Changes, own)
		}
	}
	return res
}

// The role watch, for one prefix, is enough. Who has the role replication instead may watch too.
func TestWatchNeedsOneRole(t *testing.T) {
	f := changed(t)
	f.sends = true
	var denied []string
	f.fail = func(method string) error {
		if slices.Contains(denied, method) {
			return status.Error(codes.PermissionDenied, "reports may not call "+method)
		}
		return nil
	}
	args := []string{"-watch", "b*", "-from", "2", "-limit", "2"}
	denied = []string{"GetChanges"}
	expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "2 put b1 => y\n3 put b2 => q\n"})
	f.mu.Lock()
	asked := string(f.watched[0].GetKeyPrefix())
	f.mu.Unlock()
	if asked != "b" {
		t.Errorf("it asked for the keys that begin with %q", asked)
	}
	denied = []string{"WatchChanges"}
	expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "2 put b1 => y\n3 put b2 => q\n"})
	denied = []string{"GetChanges", "WatchChanges"}
	expect(t, dkvctl(t, f.addr, args...), outcome{code: 1, stderr: "PermissionDenied: reports may not call WatchChanges"})
}

// A watch that was cut off goes on at a node that lags, with what that has not had before.
func TestWatchGoesOnAtANodeThatLags(t *testing.T) {
	first, second := changed(t), changed(t)
	first.sends, second.sends = true, true
	later := slices.Clone(second.changes[3:])
	second.changes, second.index = second.changes[:3], 3
	first.onSent = func(res *serverpb.GetChangesResponse) error {
		if res.GetMasterChangeNumber() < 5 {
			return nil
		}
		first.mu.Lock()
		defer first.mu.Unlock()
		first.fail = func(string) error { return status.Error(codes.Unavailable, "going down") }
		return first.fail("")
	}
	second.onSent = func(res *serverpb.GetChangesResponse) error {
		if res.GetMasterChangeNumber() == 3 {
			second.mu.Lock()
			for _, c := range later {
				second.apply(c.Trxns...)
			}
			second.mu.Unlock()
			second.put("new", "1")
		}
		return nil
	}
	want := "1 put a1 => x\n2 put b1 => y\n3 put a2 => p\n3 put b2 => q\n4 del a1\n5 put a3 => \xff\n6 put new => 1\n"
	expect(t, dkvctl(t, first.addr+","+second.addr, "-watch", "-from", "1", "-limit", "7", "-poll", "1ms"), outcome{stdout: want})
	second.mu.Lock()
	defer second.mu.Unlock()
	var froms []uint64
	for _, r := range second.watched {
		froms = append(froms, r.GetFromChangeNumber())
	}
	if want := []uint64{6, 0}; !slices.Equal(froms, want) {
		t.Errorf("it asked the node that lags from %d on, want %d", froms, want)
	}
}

// A node with another history is left for one that has the watch's; without one the watch ends.
func TestWatchLeavesAnotherHistory(t *testing.T) {
	first, second := changed(t), changed(t)
	first.sends, second.sends = true, true
	first.onSent = func(*serverpb.GetChangesResponse) error {
		first.mu.Lock()
		defer first.mu.Unlock()
		first.history = "h2"
		first.news.Raise()
		return nil
	}
	second.put("new", "1")
	both := first.addr + "," + second.addr
	expect(t, dkvctl(t, both, "-watch", "-from", "4", "-limit", "3", "-poll", "1ms"), outcome{stdout: "4 del a1\n5 put a3 => \xff\n6 put new => 1\n"})
	for f, history := range map[*fake]string{first: "h1", second: "h3"} {
		f.mu.Lock()
		f.history = history
		f.mu.Unlock()
	}
	expect(t, dkvctl(t, both, "-watch", "-poll", "1ms"), outcome{code: 1, stderr: "the database was replaced"})
}

// A node that does not retain what comes next, as a former master that is a slave by now, is left for one that does.
func TestWatchLeavesANodeThatDoesNotRetain(t *testing.T) {
	first, second := changed(t), changed(t)
	first.sends, second.sends = true, true
	first.oldest = 6
	both := first.addr + "," + second.addr
	expect(t, dkvctl(t, both, "-watch", "-from", "4", "-limit", "2"), outcome{stdout: "4 del a1\n5 put a3 => \xff\n"})
	second.oldest = 6
	expect(t, dkvctl(t, both, "-watch", "-from", "4"),
		outcome{code: 1, stderr: "change 4 is not retained: OutOfRange: the oldest retained change is 6; -from 0 begins"})
}

func TestWatchOfANodeThatSendsIsInterrupted(t *testing.T) {
	f := changed(t)
	f.sends = true
	ctx, interrupt := context.WithCancel(t.Context())
	f.onSent = func(res *serverpb.GetChangesResponse) error {
		if res.GetMasterChangeNumber() == 5 {
			f.put("new", "1")
		}
		return nil
	}
	out := writerFunc(func(p []byte) (int, error) {
		if string(p) != "6 put new => 1\n" {
			t.Errorf("it printed %q", p)
		}
		interrupt()
		return len(p), nil
	})
	code := Main(ctx, []string{"-a", f.addr, "-watch"}, func(string) (string, bool) { return "", false }, strings.NewReader(""), out, &bytes.Buffer{})
	if code != exitOK {
		t.Errorf("code %d", code)
	}
}

// A watch goes on in the history that a promotion has begun, if that has what was printed. What it
// knows to have had no effect in the former one does not count.
func TestWatchGoesOnAfterAPromotion(t *testing.T) {
	for name, c := range map[string]struct {
		end  uint64 // of the former history
		base uint64 // of the next one
		want outcome
	}{
		"that lost nothing":       {6, 7, outcome{stdout: "4 del a1\n5 put a3 => \xff\n8 put new => 1\n"}},
		"that lost what followed": {5, 7, outcome{stdout: "4 del a1\n5 put a3 => \xff\n8 put new => 1\n"}},
		"that lost a change":      {4, 20, outcome{code: 1, stdout: "4 del a1\n5 put a3 => \xff\n", stderr: "a promotion has lost some of the changes up to 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := changed(t)
			f.sends = true
			f.onSent = func(res *serverpb.GetChangesResponse) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				switch newest := res.GetMasterChangeNumber(); {
				case f.history != "h1":
				case newest == 5:
					f.index = 10 // entries without an effect
					f.news.Raise()
				case newest == 10:
					f.history, f.ended, f.index = "1-p", map[string]uint64{"h1": c.end}, c.base
					f.apply(putTrxn([]byte("new"), []byte("1"), 0))
				}
				return nil
			}
			expect(t, dkvctl(t, f.addr, "-watch", "-from", "4", "-limit", "3", "-poll", "1ms"), c.want)
		})
	}
}

// A node that has come to the history of a promotion and lags there has lost nothing: the watch
// waits for it.
func TestWatchWaitsForANodeThatLagsAfterAPromotion(t *testing.T) {
	f := changed(t)
	f.sends = true
	kept := f.changes
	lags := 0
	f.onSent = func(res *serverpb.GetChangesResponse) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch newest := res.GetMasterChangeNumber(); {
		case f.history == "h1" && newest == 5:
			f.history, f.ended = "1-p", map[string]uint64{"h1": 5}
			f.changes, f.index = slices.Clone(kept[:3]), 3
			f.news.Raise()
		case f.history == "1-p" && newest == 3:
			if lags++; lags == 2 {
				f.changes, f.index = slices.Clone(kept), 7
				f.apply(putTrxn([]byte("new"), []byte("1"), 0))
			}
		}
		return nil
	}
	want := outcome{stdout: "4 del a1\n5 put a3 => \xff\n8 put new => 1\n"}
	expect(t, dkvctl(t, f.addr, "-watch", "-from", "4", "-limit", "3", "-poll", "1ms", "-timeout", "1m"), want)
}

// While a promotion goes on, no node may serve a watch for a moment.
func TestWatchWaitsForAMoment(t *testing.T) {
	f := changed(t)
	f.sends = true
	left := 3
	f.onSent = func(res *serverpb.GetChangesResponse) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.fail = func(string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if left--; left < 0 {
				f.fail = nil
				return nil
			}
			return status.Error(codes.Unavailable, "it becomes a master")
		}
		if res.GetMasterChangeNumber() == 5 {
			return status.Error(codes.Unavailable, "it is promoted")
		}
		return nil
	}
	args := []string{"-watch", "-from", "4", "-limit", "3", "-poll", "1ms", "-timeout", "1m"}
	f.put("b3", "1")
	expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "4 del a1\n5 put a3 => \xff\n6 put b3 => 1\n"})
	f.mu.Lock()
	f.fail = func(string) error { return status.Error(codes.Unavailable, "it becomes a master") }
	f.mu.Unlock()
	expect(t, dkvctl(t, f.addr, args...), outcome{code: 1, stderr: "it becomes a master"})
}

// A node that has lost touch with the others, as a master that a promotion has replaced, is left
// for another one that has not.
func TestWatchLeavesANodeThatIsCutOff(t *testing.T) {
	first, second := changed(t), changed(t)
	first.sends, second.sends = true, true
	first.age = 60_000
	second.put("new", "1")
	args := []string{"-watch", "-from", "5", "-poll", "1ms", "-limit", "2"}
	both := first.addr + "," + second.addr
	expect(t, dkvctl(t, both, args...), outcome{stdout: "5 put a3 => \xff\n6 put new => 1\n"})
	if n := first.calls("WatchChanges"); n != 1 {
		t.Errorf("the first node was asked %d times", n)
	}
	second.mu.Lock()
	second.fail = func(string) error { return status.Error(codes.Unavailable, "going down") }
	second.mu.Unlock()
	first.put("late", "1")
	expect(t, dkvctl(t, both, args...), outcome{stdout: "5 put a3 => \xff\n6 put late => 1\n"})
	expect(t, dkvctl(t, first.addr, args...), outcome{stdout: "5 put a3 => \xff\n6 put late => 1\n"})
}
