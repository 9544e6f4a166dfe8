package completion

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// found returns the candidates for the last word of a line. A line that ends with a space
// is completed by a new word.
func found(line string) (Kind, []string) {
	env := func(name string) (string, bool) { return "h1:1, h2:2", name == "DKVCTL_ADDR" }
	f := Find(strings.Split(line, " "), env)
	words := make([]string, len(f.Candidates))
	for i, c := range f.Candidates {
		words[i] = c.Word
	}
	return f.Kind, words
}

func TestWordsOfALine(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"-addN", "-addNode"},
		{"--addN", "--addNode"},
		{"addN", "addNode"},
		{"-ADDN", "-addNode"},
		{"-get k -lev", "-level"},
		{"-get k -level ", "seq lin"},
		{"-get k -level=", "-level=seq -level=lin"},
		{"-get k --level=s", "--level=seq"},
		{"-set k v -tt", "-ttl"},
		{"-set k v -lev", ""},
		{"-set k v -he", "-help"},
		{"-set k v -get", ""}, // a line has one command
		{"-o ", "text json"},
		{"-a ", "h1:1 h2:2"},
		{"-a h1:1,", "h1:1,h2:2"},
		{"-dkvAddr=h2", "-dkvAddr=h2:2"},
		{"-a h1:1 -stat", "-status"},
		{"-token ", "new revoke list"},
		{"-token new -role re", "read replication"},
		{"-token new -role read,w", "read,write read,watch"},
		{"-certs ", "init node client rotate show"},
		{"-certs ro", "rotate"},
		{"-setTiming ", "lan wan"},
		{"-completion ", "bash zsh fish"},
		{"-bench -pre", "-preload"},
		{"-bench mu", "multiput multiget"},
		{"-get k -tls=", "-tls=true -tls=false"},
		{"help ben", "bench"},
		{"-removeNode http://h:1 -f", "-force"},
		{"-timeout ", ""},
		{"-candi", ""}, // hidden
	} {
		if kind, got := found(c.line); kind != Words || strings.Join(got, " ") != c.want {
			t.Errorf("%q may become %q (%s), want %q", c.line, got, kind, c.want)
		}
	}
}

func TestWordsOfOthers(t *testing.T) {
	for _, c := range []struct {
		line string
		want Kind
	}{
		{"-get k -tokenFile ", Files},
		{"-caCert=/etc", Files},
		{"-certs show ", Files},
		{"-certs rotate a.pem ", Files},
		{"-certs init -dir ", Folders},
		{"-get ", Keys},
		{"-mget a b c", Keys},
		{"-mset k v k", Keys},
		{"-mset k v k v", Words},
		{"-set ", Keys},
		{"-set -- -g", Keys},
		{"-set k v", Words},
		{"-set k ", Words},
		{"-iter us", Keys},
		{"-iter users/ users/9", Keys},
		{"-watch or", Keys},
		{"-cas k old", Words},
		{"-backup ", Words},
	} {
		if kind, got := found(c.line); kind != c.want || len(got) > 0 {
			t.Errorf("%q is completed by %s %q, want %s", c.line, kind, got, c.want)
		}
	}
}

// TestEveryNameIsFound holds that completion knows whatever the parser does.
func TestEveryNameIsFound(t *testing.T) {
	for _, c := range options.Commands() {
		if _, got := found("-" + c.Name); slices.Contains(got, "-"+c.Name) == c.Hidden {
			t.Errorf("-%s: %q", c.Name, got)
		}
		for _, o := range options.Table() {
			if _, got := found("-" + c.Name + " -" + o.Name); slices.Contains(got, "-"+o.Name) != o.Of(c) {
				t.Errorf("-%s -%s: %q", c.Name, o.Name, got)
			}
		}
	}
}

func TestNoWordAtAll(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	if f := Find(nil, none); len(f.Candidates) == 0 {
		t.Error("an empty line has no candidates")
	}
	if f := Find([]string{"-a", ""}, none); len(f.Candidates) != 1 || f.Candidates[0].Word != options.DefaultAddr {
		t.Errorf("without addresses in the environment: %v", f)
	}
}

func TestScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if text, err := Script(shell); err != nil || !strings.Contains(text, "-candidates --") {
			t.Errorf("%s: %v\n%s", shell, err, text)
		}
	}
	var usage *options.UsageError
	if _, err := Script("tcsh"); !errors.As(err, &usage) {
		t.Errorf("%v", err)
	}
}
