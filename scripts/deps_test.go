package scripts_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a PATH on which dpkg-query knows the installed packages, and apt-get
// and sudo only note how they were called.
type machine struct {
	t   *testing.T
	dir string
}

func newMachine(t *testing.T, uid string, installed ...string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	m.program("id", "echo "+uid)
	m.program("dpkg-query", `for p in `+strings.Join(installed, " ")+`; do [ "$p" = "$4" ] && echo "install ok installed" && exit 0; done; exit 1`)
	m.program("apt-get", `echo "apt-get $*" >>"`+m.calls()+`"`)
	for _, real := range []string{"bash", "env", "grep"} {
		path, err := exec.LookPath(real)
		if err == nil {
			err = os.Symlink(path, filepath.Join(m.dir, real))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) calls() string { return filepath.Join(m.dir, "calls") }

func (m *machine) program(name, script string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// deps runs deps.sh and returns what apt-get was asked to install, and all output.
func (m *machine) deps(args ...string) (installed []string, output string, err error) {
	m.t.Helper()
	cmd := exec.Command("/bin/bash", append([]string{"deps.sh"}, args...)...)
	cmd.Env = []string{"PATH=" + m.dir}
	out, err := cmd.CombinedOutput()
	raw, _ := os.ReadFile(m.calls())
	for line := range strings.Lines(string(raw)) {
		if packages, is := strings.CutPrefix(strings.TrimSpace(line), "apt-get install -q -y --no-install-recommends "); is {
			installed = append(installed, strings.Fields(packages)...)
		}
	}
	return installed, string(out), err
}

var (
	forBuild = []string{"build-essential", "pkg-config", "librocksdb-dev", "git"}
	forTests = []string{"protobuf-compiler", "libprotobuf-dev", "iptables", "iproute2", "e2fsprogs", "mount"}
	forJava  = []string{"openjdk-17-jdk-headless", "maven"}
	forPages = []string{"chromium"}
)

// Serving needs no JDK, no Maven, no browser and nothing that injects faults.
func TestBuildNeedsNothingThatOnlyTestsNeed(t *testing.T) {
	for _, args := range [][]string{{"build"}, nil} {
		if got, out, err := newMachine(t, "0").deps(args...); err != nil || !slices.Equal(got, forBuild) {
			t.Errorf("deps.sh %q installs %q: %v\n%s", args, got, err, out)
		}
	}
}

func TestTestsGetWhatTheyNeed(t *testing.T) {
	if got, out, err := newMachine(t, "0").deps("test"); err != nil || !slices.Equal(got, slices.Concat(forTests, forJava, forPages)) {
		t.Errorf("installed %q: %v\n%s", got, err, out)
	}
	m := newMachine(t, "0", slices.DeleteFunc(slices.Clone(forTests), func(p string) bool { return p == "iptables" })...)
	m.program("javac", "")
	m.program("mvn", "")
	m.program("chromium", "")
	if got, out, err := m.deps("test"); err != nil || !slices.Equal(got, []string{"iptables"}) {
		t.Errorf("with a JDK, a Maven and a browser of another origin: installed %q: %v\n%s", got, err, out)
	}
}

func TestNothingIsInstalledTwice(t *testing.T) {
	m := newMachine(t, "1000", slices.Concat(forBuild, forTests)...)
	m.program("javac", "")
	m.program("mvn", "")
	m.program("chromium", "")
	for _, what := range []string{"build", "test"} {
		if _, out, err := m.deps(what); err != nil || !strings.Contains(out, "are installed") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	if raw, err := os.ReadFile(m.calls()); err == nil {
		t.Errorf("apt-get was called: %s", raw)
	}
}

func TestSudoIsUsedByOthersThanRoot(t *testing.T) {
	m := newMachine(t, "1000", forBuild[1:]...)
	if _, out, err := m.deps("build"); err == nil || !strings.Contains(out, "install sudo, to install: "+forBuild[0]) {
		t.Errorf("without sudo: %v\n%s", err, out)
	}
	m.program("sudo", `echo "sudo" >>"`+m.calls()+`"; exec "$@"`)
	if got, out, err := m.deps("build"); err != nil || !slices.Equal(got, forBuild[:1]) {
		t.Errorf("with sudo: installed %q: %v\n%s", got, err, out)
	}
	if raw, _ := os.ReadFile(m.calls()); strings.Count(string(raw), "sudo") != 2 {
		t.Errorf("called: %s", raw)
	}
}

func TestUnknownPurposeIsRefused(t *testing.T) {
	if _, out, err := newMachine(t, "0").deps("all"); err == nil || !strings.Contains(out, "usage:") {
		t.Errorf("%v\n%s", err, out)
	}
}
