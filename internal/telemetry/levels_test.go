package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackageOf(t *testing.T) {
	for function, want := range map[string]string{
		"github.com/dkvdb/dkv/internal/server.(*calls).finish":        "server",
		"github.com/dkvdb/dkv/internal/replica/raft.(*Replica).Run":   "replica/raft",
		"github.com/dkvdb/dkv/internal/replica/raft/host.logTo.func1": "replica/raft/host",
		"github.com/dkvdb/dkv/internal/app/role/member.guarded.Run":   "app/role/member",
		"github.com/dkvdb/dkv/cmd/dkvsrv.main":                        "",
		"":                                                            "",
	} {
		if got := packageOf(function); got != want {
			t.Errorf("%q is of %q, want %q", function, got, want)
		}
	}
}

// TestLevelsOfComponentsAreBounded: any name below a component is accepted, and each is kept.
func TestLevelsOfComponentsAreBounded(t *testing.T) {
	levels, debug := new(Levels), slog.LevelDebug
	for i := range maxComponents {
		if err := levels.SetComponent(fmt.Sprintf("replica/p%d", i), &debug); err != nil {
			t.Fatal(err)
		}
	}
	if err := levels.SetComponent("server", &debug); err == nil || !strings.Contains(err.Error(), "64 components have a level of their own") {
		t.Errorf("one more: %v", err)
	}
	if err := levels.SetComponent("replica/p0", &debug); err != nil {
		t.Errorf("one that has a level: %v", err)
	}
	if err := levels.SetComponent("replica/p0", nil); err != nil {
		t.Error(err)
	}
	if err := levels.SetComponent("server", &debug); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if err := levels.SetComponent("server/"+strings.Repeat("a", 200), nil); err == nil {
		t.Error("a name of 200 characters is accepted")
	}
}

func TestComponentsArePackages(t *testing.T) {
	for _, name := range Components {
		if info, err := os.Stat(filepath.Join("..", name)); err != nil || !info.IsDir() {
			t.Errorf("%s is no package: %v", name, err)
		}
	}
}

// A logger with levels of components keeps its last events, but those that are not logged.
func TestLevelsLeaveTheLastEvents(t *testing.T) {
	recent, levels := NewRecent(4), new(Levels)
	log := NewLogger(LogOptions{Writer: io.Discard, Level: levels, Recent: recent, Node: "n1"})
	if RecentOf(log) != recent || LevelsOf(log) != levels {
		t.Error("what keeps the events, or the levels, cannot be found")
	}
	debug := slog.LevelDebug
	if err := levels.SetComponent("server", &debug); err != nil {
		t.Fatal(err)
	}
	log.Debug("of another component")
	log.Info("kept")
	if got := recent.Events(Wanted{Level: debug, Limit: 4}); len(got) != 1 || got[0].Message != "kept" {
		t.Errorf("kept %+v", got)
	}
}

// The lines of this package have the level of its component, and none but they.
func TestLevelsOfComponents(t *testing.T) {
	debug, failed := slog.LevelDebug, slog.LevelError
	Components = append(Components, "telemetry")
	defer func() { Components = Components[:len(Components)-1] }()
	var out bytes.Buffer
	levels := new(Levels)
	log := NewLogger(LogOptions{Writer: &out, Level: levels, Node: "n1"}).With("vbucket", "v").WithGroup("g")
	if LevelsOf(log) != levels || LevelsOf(slog.New(slog.DiscardHandler)) != nil {
		t.Error("the levels of a logger are not found")
	}
	shows := func(want string) {
		t.Helper()
		out.Reset()
		log.Debug("d")
		log.Info("i")
		log.Error("e")
		var got string
		for line := range strings.Lines(out.String()) {
			got += string(line[strings.Index(line, "msg=")+4])
		}
		if got != want {
			t.Errorf("the lines %q are logged, want %q", got, want)
		}
	}
	set := func(name string, level *slog.Level) {
		t.Helper()
		if err := levels.SetComponent(name, level); err != nil {
			t.Fatal(err)
		}
	}
	shows("ie")
	set("server", &debug)
	shows("ie")
	set("telemetry", &debug)
	shows("die")
	set("telemetry", &failed)
	shows("e")
	set("telemetry/deeper", &debug)
	shows("e")
	set("telemetry", nil)
	shows("ie")
	levels.Set(slog.LevelError)
	shows("e")
	if all, of := levels.Current(); all != failed || len(of) != 2 || of["server"] != debug {
		t.Errorf("%v, %v", all, of)
	}
	levels.Reset(slog.LevelDebug)
	shows("die")
	if err := levels.SetComponent("raft", &debug); err == nil || !strings.Contains(err.Error(), `no component "raft"`) || !strings.Contains(err.Error(), "replica/raft") {
		t.Errorf("%v", err)
	}
}
