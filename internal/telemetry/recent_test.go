package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

// messages are those of events, in order.
func messages(events []Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Message)
	}
	return out
}

// TestRecentKeepsTheLastEvents: the newest first, by level, vBucket and message.
func TestRecentKeepsTheLastEvents(t *testing.T) {
	var out bytes.Buffer
	recent := NewRecent(4)
	log := NewLogger(LogOptions{Writer: &out, Level: slog.LevelInfo, Node: "n1", Recent: recent})
	if got := recent.Events(Wanted{Limit: 9}); len(got) != 0 {
		t.Errorf("at first there are %v", got)
	}
	for i := range 3 {
		log.Info(fmt.Sprint("early", i))
	}
	if got := messages(recent.Events(Wanted{Limit: 9})); !reflect.DeepEqual(got, []string{"early2", "early1", "early0"}) {
		t.Errorf("before it is full: %v", got)
	}
	log.With("vbucket", "7").Warn("slow", "took", 20*time.Millisecond, "error", errors.New("disk"))
	log.WithGroup("g").Error("bad", slog.Group("h", "x", 1))
	log.Debug("nothing")
	log.Info("audit")
	if got := messages(recent.Events(Wanted{Limit: 9})); !reflect.DeepEqual(got, []string{"audit", "bad", "slow", "early2"}) {
		t.Errorf("when it is full: %v", got)
	}
	for want, w := range map[string]Wanted{
		"[audit bad]": {Limit: 2}, "[bad slow]": {Limit: 9, Level: slog.LevelWarn}, "[slow]": {Limit: 9, VBucket: "7"}, "[audit]": {Limit: 9, Message: "audit"}, "[]": {Limit: 9, VBucket: "8"},
	} {
		if got := fmt.Sprint(messages(recent.Events(w))); got != want {
			t.Errorf("%+v: %s, not %s", w, got, want)
		}
	}
	slow := recent.Events(Wanted{Limit: 1, VBucket: "7"})[0]
	if slow.ID != 3 || slow.Level != "WARN" || !reflect.DeepEqual(slow.Attrs, [][2]string{{"node", "n1"}, {"vbucket", "7"}, {"took", "20ms"}, {"error", "disk"}}) {
		t.Errorf("%+v", slow)
	}
	if bad := recent.Events(Wanted{Limit: 1, Level: slog.LevelError})[0]; !reflect.DeepEqual(bad.Attrs, [][2]string{{"node", "n1"}, {"g.h.x", "1"}}) {
		t.Errorf("%+v", bad)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 6 {
		t.Errorf("%d lines were written", lines)
	}
}

// TestUnkeptLinesAreWritten: to the log with its attributes, and not to memory.
func TestUnkeptLinesAreWritten(t *testing.T) {
	for _, level := range []slog.Leveler{slog.LevelInfo, new(Levels)} {
		var out bytes.Buffer
		recent := NewRecent(4)
		log := Unkept(NewLogger(LogOptions{Writer: &out, Level: level, Node: "n1", Recent: recent}))
		log.Info("request")
		log.Debug("nothing")
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "msg=request node=n1") {
			t.Errorf("wrote %q", got)
		}
		if kept := recent.Events(Wanted{Limit: 9}); len(kept) != 0 {
			t.Errorf("kept %v", kept)
		}
	}
	if plain := slog.New(slog.DiscardHandler); Unkept(plain) != plain {
		t.Error("a logger that keeps nothing became another one")
	}
}

// TestRecentKeepsNoLongText: a line may hold what a client has sent.
func TestRecentKeepsNoLongText(t *testing.T) {
	recent := NewRecent(4)
	NewLogger(LogOptions{Writer: new(bytes.Buffer), Recent: recent}).Info("x", "key", strings.Repeat("k", 1<<20))
	if got := len(recent.Events(Wanted{Limit: 1})[0].Attrs[0][1]); got > 2*maxText {
		t.Errorf("%d bytes are kept", got)
	}
}
