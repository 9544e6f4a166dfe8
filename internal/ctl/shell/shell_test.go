package shell

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/auth/token"
)

func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		`-set foo bar`:              "-set|foo|bar",
		`  -set  foo	"a b"  `:       "-set|foo|a b",
		`-set 'it''s' "a \"b\""`:    `-set|its|a "b"`,
		`-set a\ b 'a\b' c\`:        `-set|a b|a\b|c\`,
		`-cas k "" new`:             "-cas|k||new",
		``:                          "",
		`-set k 'it'\''s'`:          "-set|k|it's",
		`-get --level=seq ключ`:     "-get|--level=seq|ключ",
		`-set k {"a":1} # no $HOME`: `-set|k|{a:1}|#|no|$HOME`,
		"-set k\xff 'v\x80' \\\xc3": "-set|k\xff|v\x80|\xc3",
	} {
		if got, err := Words(line); err != nil || strings.Join(got, "|") != want {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`-set "foo`, `-set 'foo`, `'`} {
		if got, err := Words(line); err == nil {
			t.Errorf("%s: %q", line, got)
		}
	}
	for _, word := range []string{"", "plain", "a b", "it's", `"`, `\`, `a\ b'c"d`} {
		if got, err := Words("x " + quoted(word)); err != nil || len(got) != 2 || got[1] != word {
			t.Errorf("%q quoted is %s: %q, %v", word, quoted(word), got, err)
		}
	}
}

// piped runs lines, and returns what was run and how many failed.
func piped(t *testing.T, text string) (run []string, errors string, failed int) {
	var said strings.Builder
	s := &Shell{Errors: &said, Run: func(_ context.Context, words []string) bool {
		run = append(run, strings.Join(words, "|"))
		return words[0] != "bad"
	}}
	failed, err := s.FromPipe(t.Context(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return run, said.String(), failed
}

func TestLinesFromAPipe(t *testing.T) {
	run, said, failed := piped(t, "# a comment\n\n-set k 'a b'\nbad\ndkvctl -get k\n-get \"k\n-del k\nexit\n-never\n")
	if want := []string{"-set|k|a b", "bad", "-get|k", "-del|k"}; !slices.Equal(run, want) || failed != 2 {
		t.Errorf("%q, %d failed", run, failed)
	}
	if !strings.Contains(said, `the quote " is not closed`) {
		t.Errorf("%q", said)
	}
	if run, _, failed := piped(t, "-get a"); len(run) != 1 || failed != 0 {
		t.Errorf("a last line without its end: %q, %d", run, failed)
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("-get older\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	typed := []string{"-get k", "-get k", "-set k 'a secret'", "-cas k old new", "-mset a 1 b 2", " -get hidden", "-token list -authFile x",
		"-get " + token.Prefix + "abc", `-set "a b" c`, "-a h:1 -set k v", "-get 'unclosed", "-get last"}
	for _, line := range typed {
		h.Add(line)
	}
	if h.At(0) != "-get last" || h.At(9) != "-set k 'a secret'" || h.Len() != len(typed) { // one is a repeat, and one was there
		t.Errorf("in memory: %q", h.lines)
	}
	raw, err := os.ReadFile(path)
	want := "-get older\n-get k\n-set k\n-cas k\n-mset a\n-set 'a b'\n-a h:1 -set k\n-get last\n"
	if err != nil || string(raw) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, raw, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != historyMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := OpenHistory(path)
	if err != nil || again.At(0) != "-get last" || again.Len() != 8 {
		t.Errorf("read again: %q, %v", again.lines, err)
	}
}

// TestHistoryIsBounded: in memory and in its file.
func TestHistoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte(strings.Repeat("-get k\n-get l\n", historyLines)), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHistory(path)
	if err != nil || h.Len() != historyLines {
		t.Fatalf("%d lines, %v", h.Len(), err)
	}
	if h.Add("-get m"); h.Len() != historyLines || h.At(0) != "-get m" {
		t.Errorf("%d lines", h.Len())
	}
	if raw, err := os.ReadFile(path); err != nil || strings.Count(string(raw), "\n") != historyLines+1 {
		t.Errorf("%d lines in the file, %v", strings.Count(string(raw), "\n"), err)
	}
	if _, err := OpenHistory(""); err != nil {
		t.Error(err)
	}
}

func TestTab(t *testing.T) {
	var listed []string
	c := &completer{
		env:  func(string) (string, bool) { return "", false },
		show: func(words []string) { listed = words },
		keys: func(prefix string) []string {
			return slices.DeleteFunc([]string{"user/1", "user/12", "user/2 b", "über/1", "über/2", "evil\x1b[2J", "evil\nquit", "\xff"}, func(k string) bool { return !strings.HasPrefix(k, prefix) })
		},
	}
	for _, tt := range []struct{ line, want, listed string }{
		{"-addN", "-addNode ", ""},
		{"-get k -level ", "-get k -level ", "seq lin"},
		{"-get k -level s", "-get k -level seq ", ""},
		{"-get us", "-get user/", ""},
		{"-get user/", "-get user/", "user/1 user/12 user/2 b"},
		{"-get user/2", "-get 'user/2 b' ", ""},
		{"-get 'user/2", "-get 'user/2 b' ", ""},
		{"-get ü", "-get über/", ""},
		{"-get none", "-get none", ""},
		{"-get ev", "-get ev", ""},
		{"-set -- us", "-set -- user/", ""},
	} {
		listed = nil
		got, pos, ok := c.key(tt.line+" x", len(tt.line), '\t')
		if !ok || got != tt.want+" x" || pos != len(tt.want) || strings.Join(listed, " ") != tt.listed {
			t.Errorf("%q becomes %q at %d (%t), listing %q", tt.line, got, pos, ok, listed)
		}
	}
	if _, _, ok := c.key("-get", 4, 'x'); ok {
		t.Error("another key completes")
	}
}

// TestControlC clears the line, and does not end the shell.
func TestControlC(t *testing.T) {
	k := &keys{in: strings.NewReader("abc\x03d\n")}
	var got []byte
	buf := make([]byte, 3)
	for {
		n, err := k.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			break
		}
	}
	if string(got) != "abc"+clearLine+"d\n" {
		t.Errorf("%q", got)
	}
}
