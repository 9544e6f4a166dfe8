package api_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGeneratedCodeIsCurrent generates the code again and compares it with what
// is committed. Only the line that names protoc's version may differ.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	out := t.TempDir()
	if text, err := exec.Command("../scripts/proto.sh", out).CombinedOutput(); err != nil {
		t.Fatalf("scripts/proto.sh: %v (make test-deps installs protoc)\n%s", err, text)
	}
	fresh, err := filepath.Glob(filepath.Join(out, "api", "*", "*.go"))
	if err != nil || len(fresh) == 0 {
		t.Fatalf("nothing was generated: %v", err)
	}
	committed, err := filepath.Glob("*/*.pb.go")
	if err != nil || len(committed) != len(fresh) {
		t.Errorf("%d files are generated, %d are committed (%v)", len(fresh), len(committed), err)
	}
	for _, path := range fresh {
		rel, err := filepath.Rel(filepath.Join(out, "api"), path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, path), content(t, rel)) {
			t.Errorf("api/%s is not what the .proto files generate; run make proto", rel)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept [][]byte
	for line := range bytes.Lines(raw) {
		if !bytes.Contains(line, []byte("protoc  ")) && !bytes.Contains(line, []byte("- protoc ")) {
			kept = append(kept, line)
		}
	}
	return bytes.Join(kept, nil)
}
