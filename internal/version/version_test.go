package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	build := func(version, revision, modified string) *debug.BuildInfo {
		b := &debug.BuildInfo{}
		b.Main.Version = version
		if revision != "" {
			b.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
		}
		return b
	}
	tests := []struct {
		name              string
		stamped, commit   string
		build             *debug.BuildInfo
		version, revision string
	}{
		{"stamped wins", "v1.2.3", "", build("v0.0.1", "abc", "false"), "v1.2.3", "abc"},
		{"embedded", "", "", build("v0.0.1", "abc", "false"), "v0.0.1", "abc"},
		{"embedded revision wins", "v1", "def", build("v0.0.1", "abc", "true"), "v1", "abc-dirty"},
		{"working tree", "", "", build("(devel)", "abc", "true"), "devel", "abc-dirty"},
		{"no revision", "", "", build("", "", ""), "devel", "unknown"},
		{"stamped revision", "v1", "def", build("", "", ""), "v1", "def"},
		{"no build information", "", "", nil, "devel", "unknown"},
		{"modified without revision", "v1", "", &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}}}, "v1", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := describe(tt.stamped, tt.commit, tt.build)
			want := Info{Version: tt.version, Revision: tt.revision, GoVersion: runtime.Version()}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestRunningProgram(t *testing.T) {
	info := Get()
	if info.Version == "" || info.Revision == "" || info.GoVersion != runtime.Version() {
		t.Errorf("incomplete: %+v", info)
	}
	if String() != info.Version {
		t.Errorf("String() = %q, want %q", String(), info.Version)
	}
	if line := info.String(); !strings.HasPrefix(line, info.Version+" (revision ") || !strings.HasSuffix(line, runtime.Version()+")") {
		t.Errorf("line %q", line)
	}
}

// The variables' names are part of the build's command line: a rename would leave every
// release unstamped without any error.
func TestLinkerStamps(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the Go tool")
	}
	binary := filepath.Join(t.TempDir(), "stamped.test")
	build := exec.Command("go", "test", "-c", "-o", binary,
		"-buildvcs=false", "-ldflags", stamps(t, "v9.8.7", "abcdef"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.Command(binary, "-test.run", "^TestPrintVersion$", "-test.v")
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("run: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "version=v9.8.7 (revision abcdef,") {
		t.Errorf("the stamp did not arrive:\n%s", out)
	}
}

// stamps are the linker's flags for a version and a commit, as make build has them.
func stamps(t *testing.T, version, commit string) string {
	t.Helper()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, flags, found := strings.Cut(string(makefile), "\nLDFLAGS    := ")
	if !found {
		t.Fatal("the Makefile sets no LDFLAGS")
	}
	flags, _, _ = strings.Cut(flags, "\n")
	return strings.NewReplacer("$(VERSION)", version, "$(REVISION)", commit).Replace(flags)
}

// TestPrintVersion shows the version to TestLinkerStamps.
func TestPrintVersion(t *testing.T) {
	if String() == "" {
		t.Error("no version")
	}
	t.Logf("version=%s", Get())
}
