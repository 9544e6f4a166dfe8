package role

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/telemetry"
)

func TestSetLogLevel(t *testing.T) {
	log := telemetry.NewLogger(telemetry.LogOptions{Writer: io.Discard, Level: new(telemetry.Levels)})
	for _, c := range []struct{ level, component, all, own, err string }{
		{all: "INFO"}, // asked, not changed
		{level: "debug", component: "replica/raft", all: "INFO", own: "DEBUG"},
		{level: "warn", all: "WARN", own: "DEBUG"},
		{component: "replica/raft", all: "WARN"},
		{level: "loud", err: `there is no level "loud"`},
		{level: "error+1000", err: `there is no level "error+1000": a level is debug, info, warn or error`},
		{level: "debug-4", component: "replica/raft", err: `there is no level "debug-4"`},
		{all: "WARN"},
		{level: "debug", component: "raft", err: `there is no component "raft"`},
	} {
		got, err := SetLogLevel(log, &serverpb.SetLogLevelRequest{Level: c.level, Component: c.component})
		if c.err != "" {
			if kv.KindOf(err) != kv.Invalid || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q of %q: %v", c.level, c.component, err)
			}
			continue
		}
		if err != nil || got.GetLevel() != c.all || got.GetComponents()["replica/raft"] != c.own {
			t.Errorf("%q of %q: %v, %v", c.level, c.component, got, err)
		}
	}
	if _, err := SetLogLevel(slog.New(slog.DiscardHandler), &serverpb.SetLogLevelRequest{}); kv.KindOf(err) != kv.Unimplemented {
		t.Errorf("a log without levels: %v", err)
	}
}
