package scripts_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// released runs release.sh in a clone, with stand-ins for the tools that it builds and
// programs that print their arguments, and returns the files that it makes. packed is the
// time, in seconds, at which the chart is packed.
func released(t *testing.T, packed string) map[string][]byte {
	t.Helper()
	clone, tools := t.TempDir(), t.TempDir()
	if err := os.CopyFS(filepath.Join(clone, "deploy"), os.DirFS("../deploy")); err != nil {
		t.Fatal(err)
	}
	write := func(path, content string) {
		t.Helper()
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("release.sh")
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(clone, "scripts/release.sh"), string(script))
	for _, name := range []string{"dkvsrv.yaml", "LICENSE", "NOTICE", "README.md", "CHANGELOG.md"} {
		write(filepath.Join(clone, name), name)
	}
	for _, name := range []string{"dkvsrv", "dkvctl"} {
		write(filepath.Join(clone, "bin", name), "#!/bin/sh\necho "+name+" \"$@\"\n")
	}
	write(filepath.Join(tools, "objdump"), "#!/bin/sh\necho GLIBC_2.34\n")
	write(filepath.Join(tools, "go"), `#!/bin/sh
case $1 in
env) echo amd64 ;;
*) ln -sf /bin/true build/nfpm ;;
esac
`)
	write(filepath.Join(clone, "build/chart"), `#!/bin/sh
cd "$4" && mkdir dkv && echo "version: $3" >dkv/Chart.yaml
tar --mtime=@$PACKED -czf "dkv-$3.tgz" dkv && rm -r dkv
`)
	cmd := exec.Command("bash", "scripts/release.sh", "v1.2.3-4-gabcdef", "bin", "build/release")
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "SOURCE_DATE_EPOCH=1700000000", "PACKED="+packed)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files := make(map[string][]byte)
	entries, err := os.ReadDir(filepath.Join(clone, "build/release"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(clone, "build/release", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Who builds the release of a commit a second time must be able to compare.
func TestReleasesOfACommitAreEqual(t *testing.T) {
	first, second := released(t, "1700000001"), released(t, "1700000099")
	for _, name := range []string{"dkv-1.2.3+4.gabcdef-linux-amd64.tar.gz", "dkv-1.2.3-4-gabcdef.tgz"} {
		if len(first[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if !maps.EqualFunc(first, second, bytes.Equal) {
		for name := range first {
			t.Logf("%s: %v", name, bytes.Equal(first[name], second[name]))
		}
		t.Error("two releases differ")
	}
}
