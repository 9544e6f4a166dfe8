package scripts_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clone copies what cgo-env.sh reads to a folder of its own.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "scripts"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"scripts/cgo-env.sh", "scripts/grocksdb.sum", "go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join("..", file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), raw, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compiler is a C++ compiler with the headers of one RocksDB ("" for none), and an archive
// of each library that the programs need.
func compiler(t *testing.T, rocksdb string) string {
	t.Helper()
	dir := t.TempDir()
	var macros strings.Builder
	if parts := strings.Split(rocksdb, "."); len(parts) == 3 {
		fmt.Fprintf(&macros, "#define ROCKSDB_MAJOR %s\n#define ROCKSDB_MINOR %s\n#define ROCKSDB_PATCH %s\n", parts[0], parts[1], parts[2])
	}
	script := "#!/bin/sh\ncase $1 in\n-print-file-name=*) f=" + dir + "/${1#*=}; : >$f; echo $f ;;\n*) cat <<'E'\n" + macros.String() + "E\n;;\nesac\n"
	path := filepath.Join(dir, "c++")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// cgoEnv runs cgo-env.sh in a clone and returns what it prints.
func cgoEnv(clone, home string, env ...string) (string, error) {
	cmd := exec.Command("/bin/sh", "scripts/cgo-env.sh")
	cmd.Dir = clone
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C"}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// With other flags Go would compile everything with cgo again in each clone.
func TestClonesUseTheSameFlags(t *testing.T) {
	home, cxx := t.TempDir(), compiler(t, "8.9.1")
	first, err := cgoEnv(clone(t), home, "CXX="+cxx)
	if err != nil {
		t.Fatal(err, first)
	}
	second, err := cgoEnv(clone(t), home, "CXX="+cxx)
	if err != nil || first != second {
		t.Errorf("the second clone (%v):\n%s\nthe first:\n%s", err, second, first)
	}
	for _, want := range []string{"-L" + home + "/.cache/dkv/lib-", "-modfile=" + home + "/.cache/dkv/grocksdb-v1.8.12-"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing in\n%s", want, first)
		}
	}
	left, err := filepath.Glob(filepath.Join(home, ".cache/dkv/next.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// What is linked must be what the compiler finds now, and not what it found before.
func TestOtherLibrariesHaveOtherFlags(t *testing.T) {
	home, dir := t.TempDir(), clone(t)
	first, err := cgoEnv(dir, home, "CXX="+compiler(t, "7.8.3"))
	if err != nil {
		t.Fatal(err, first)
	}
	if second, err := cgoEnv(dir, home, "CXX="+compiler(t, "7.8.3")); err != nil || first == second {
		t.Errorf("with archives elsewhere (%v) the flags stay\n%s", err, second)
	}
}

func TestWithoutHomeTheTreeIsUsed(t *testing.T) {
	dir := clone(t)
	out, err := cgoEnv(dir, filepath.Join(dir, "go.mod"), "CXX="+compiler(t, "7.8.3"))
	if err != nil || !strings.Contains(out, "-L"+dir+"/build/lib-") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Each release of grocksdb is written for one RocksDB.
func TestGrocksdbMatchesRocksDB(t *testing.T) {
	home, dir := t.TempDir(), clone(t)
	for rocksdb, want := range map[string]string{"7.8.3": "", "7.10.2": "", "8.9.1": "v1.8.12", "9.10.0": "v1.9.8"} {
		out, err := cgoEnv(dir, home, "ROCKSDB_LINK=dynamic", "CXX="+compiler(t, rocksdb))
		if err != nil {
			t.Errorf("RocksDB %s: %v\n%s", rocksdb, err, out)
		}
		_, flag, has := strings.Cut(out, "GOFLAGS=-modfile=")
		if has != (want != "") {
			t.Errorf("RocksDB %s: %s", rocksdb, out)
		}
		if has {
			mustRequire(t, strings.TrimSpace(flag), want)
		}
	}
	out, err := cgoEnv(dir, home, "ROCKSDB_LINK=dynamic", "CXX="+compiler(t, "10.4.2"), "GROCKSDB=v1.10.7", "GOFLAGS=-mod=mod")
	if err != nil || !strings.Contains(out, "GOFLAGS=-mod=mod -modfile=") {
		t.Errorf("with GROCKSDB: %v\n%s", err, out)
	}
}

// mustRequire checks a copy of go.mod: it requires the release and is otherwise equal, and
// the release's checksums are beside it.
func mustRequire(t *testing.T, modfile, release string) {
	t.Helper()
	lines := func(path string) []string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(raw), "\n")
	}
	own, copied := lines("../go.mod"), lines(modfile)
	if len(own) != len(copied) {
		t.Fatalf("%s has %d lines, go.mod %d", modfile, len(copied), len(own))
	}
	for i := range own {
		if own[i] != copied[i] && copied[i] != "\tgithub.com/linxGnu/grocksdb "+release {
			t.Errorf("%s: %q in place of %q", modfile, copied[i], own[i])
		}
	}
	found := 0
	for _, line := range lines(strings.TrimSuffix(modfile, ".mod") + ".sum") {
		if strings.HasPrefix(line, "github.com/linxGnu/grocksdb "+release) {
			found++
		}
	}
	if found != 2 {
		t.Errorf("go.sum has %d checksums of grocksdb %s", found, release)
	}
}

func TestUnsupportedRocksDBIsRefused(t *testing.T) {
	home, dir := t.TempDir(), clone(t)
	for rocksdb, want := range map[string]string{
		"6.11.4": "RocksDB 6.11.4 is not supported: use 7.8 to 7.10 (Debian 12)",
		"10.4.2": "RocksDB 10.4.2 is not supported",
		"":       "run make deps",
	} {
		if out, err := cgoEnv(dir, home, "ROCKSDB_LINK=dynamic", "CXX="+compiler(t, rocksdb)); err == nil || !strings.Contains(out, want) {
			t.Errorf("RocksDB %q: %v\n%s", rocksdb, err, out)
		}
	}
}
