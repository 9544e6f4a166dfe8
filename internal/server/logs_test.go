package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// What a client sends is not repeated to it or in the log, however long it is: an
// error travels as a header, and one that is too long breaks the connection.
func TestLongTextsAreShortened(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Audited = func(string) bool { return true }
		o.SlowThreshold = time.Nanosecond
	})
	long := strings.Repeat("\u00e9", 400<<10)
	for name, fail := range map[string]error{
		"ours":      kv.Errorf(kv.Invalid, "name %q is unknown (not applied)", long),
		"a status":  status.Error(codes.InvalidArgument, long+" (not applied)"),
		"any error": errors.New(long + " (not applied)"),
	} {
		r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) { return nil, fail }
		_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte(long)})
		st := status.Convert(err)
		if st.Code() != status.Code(toStatus(fail)) || len(st.Message()) > 3<<10 || !strings.HasSuffix(st.Message(), "(not applied)") || !utf8.ValidString(st.Message()) {
			t.Errorf("%s: %v, %d bytes: %.100q", name, st.Code(), len(st.Message()), st.Message())
		}
	}
	for _, log := range []*testkit.Log{r.log, r.audit} {
		for _, line := range log.Lines() {
			if len(line) > 10<<10 {
				t.Errorf("a line of %d bytes: %.200s", len(line), line)
			}
		}
	}
	if lines := strings.Join(r.audit.Lines(), ""); !strings.Contains(lines, `what="GetRequest of 819204 bytes"`) {
		t.Errorf("audited %.300s", lines)
	}
}

// Clients cannot fill the disk with lines.
func TestSlowLinesAreLimited(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SlowThreshold = time.Nanosecond })
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return nil, errors.New("broken")
	}
	const calls = 1000
	begin := time.Now()
	for range calls {
		_, _ = r.Get(t.Context(), &serverpb.GetRequest{})
	}
	// Two kinds of lines: that it was slow, and that it failed.
	most := 2 * (linesAtOnce + int(time.Since(begin).Seconds()*linesPerSecond) + 1)
	if n := len(r.log.Lines()); n > most || n < linesAtOnce {
		t.Errorf("%d lines, want at most %d", n, most)
	}
	testkit.Eventually(t, "a line says how many were left out", func() bool {
		_, _ = r.Get(t.Context(), &serverpb.GetRequest{})
		return strings.Contains(strings.Join(r.log.Lines(), ""), " omitted=")
	})
}

func TestShort(t *testing.T) {
	for _, text := range []string{"", "a", strings.Repeat("x", maxText)} {
		if got := short(text); got != text {
			t.Errorf("%d bytes became %d", len(text), len(got))
		}
	}
	got := short(strings.Repeat("x", maxText) + strings.Repeat("y", 1000) + "end")
	if len(got) > maxText+100 || !strings.HasSuffix(got, "yend") || !strings.Contains(got, "bytes left out") {
		t.Errorf("%q", got)
	}
}
