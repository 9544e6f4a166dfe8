package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smoke runs the program on a package in a folder of its own, whose one benchmark makes
// the given number of allocations.
func smoke(t *testing.T, table string, args ...string) (string, string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"m_test.go": `package m
import "testing"
var kept []byte
func BenchmarkPut(b *testing.B) {
	b.Run("node=1", func(b *testing.B) {
		for b.Loop() { for range 10 { kept = make([]byte, 100) } }
	})
}`,
		"allowed.txt": table,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOWORK", "off")
	var out strings.Builder
	err := run(t.Context(), append([]string{"-allowed", "allowed.txt"}, args...), &out)
	after, readErr := os.ReadFile("allowed.txt")
	if readErr != nil {
		t.Fatal(readErr)
	}
	return out.String(), string(after), err
}

func TestGrownAllocationsFail(t *testing.T) {
	out, _, err := smoke(t, ". BenchmarkPut/node=1 7\n")
	if err == nil || !strings.Contains(err.Error(), "1 of 1 hot paths") || !strings.Contains(out, "10 allocations an operation,    9 allowed: TOO MANY") {
		t.Errorf("%s%v", out, err)
	}
}

func TestSlack(t *testing.T) {
	for _, c := range []struct {
		allowed, got int
		want         string
	}{
		{10, 12, "ok"}, {10, 13, exceeded}, {10, 8, "ok"}, {10, 7, "fewer: lower the table with -update"},
		{200, 206, "ok"}, {200, 207, exceeded}, {0, 0, "ok"},
	} {
		r := row{allowed: c.allowed}
		if got := r.verdict(c.got); got != c.want {
			t.Errorf("%d of %d: %s", c.got, c.allowed, got)
		}
	}
}

func TestUpdateKeepsTheComment(t *testing.T) {
	_, after, err := smoke(t, "# what it is\n. BenchmarkPut/node=1 3\n", "-update")
	if err != nil || after != "# what it is\n.                    BenchmarkPut/node=1                      10\n" {
		t.Errorf("%q, %v", after, err)
	}
}

// A benchmark that was renamed must not pass unnoticed.
func TestMissingBenchmarkFails(t *testing.T) {
	if out, _, err := smoke(t, ". BenchmarkGet 3\n"); err == nil || !strings.Contains(err.Error(), "want the result of one benchmark, not of 0") {
		t.Errorf("%s%v", out, err)
	}
}

func TestTableThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "a b\n", "a b c\n", "a b -1\n", "a b 1 2\n"} {
		if _, err := parseTable([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
