package ctl

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// TestEveryCommandRuns holds that what can be typed can be run, and the reverse.
func TestEveryCommandRuns(t *testing.T) {
	run := runners()
	for _, c := range options.Commands() {
		if run[c.Name] == nil {
			t.Errorf("nothing runs -%s", c.Name)
		}
		delete(run, c.Name)
	}
	for name := range run {
		t.Errorf("-%s cannot be typed", name)
	}
}

func TestBadUsage(t *testing.T) {
	tests := []struct{ line, want string }{
		{"", "no command"},
		{"-a h:1", "no command"},
		{"-gte foo", "did you mean -get?"},
		{"gte foo", "did you mean -get?"},
		{"-dkvAdr h:1 -get foo", "did you mean -dkvAddr?"},
		{"-frobnicate", "unknown flag -frobnicate: dkvctl -help"},
		{"-- -get foo", "no command before --"},
		{"-set foo -get", "two commands, -set and -get"},
		{"-set foo", "takes 2 arguments, not 1"},
		{"-set foo bar baz", "takes 2 arguments, not 3"},
		{"-set foo bar -stdin", "takes KEY alone"},
		{"-get foo bar", "takes 1 argument, not 2"},
		{"-iter", "takes 1 to 2 arguments"},
		{"-mget", "takes 1 or more arguments"},
		{"-listNodes x", "takes no argument"},
		{"-set foo bar -tll 10s", "did you mean -ttl?"},
		{"-set -tll 10s foo", "did you mean -ttl?"},
		{"-mset -tll 10s foo bar", "did you mean -ttl?"},
		{"-get -unlike foo", "unknown flag -unlike"},
		{"-get foo -unlike", "unknown flag -unlike"},
		{"-get foo -ttl 10s", "-ttl has no meaning for -get"},
		{"-set foo bar -workers 5", "-workers has no meaning for -set"},
		{"-set foo bar -ttl", "-ttl needs a value"},
		{"-get foo -tokenFile -tls", "-tokenFile needs a value"},
		{"-certs", "takes 1 or more arguments"},
		{"-token new", "-token new NAME"},
		{"-token new x -role root", "unknown role"},
		{"-token new x -role read,", "empty"},
		{"-token new x -prefix a", "add -role"},
		{"-token new x -role admin -prefix a", "has prefixes"},
		{"-token list", "-authFile FILE"},
		{"-token revoke x", "-authFile FILE"},
		{"-token list -a h:1", "-dkvAddr has no meaning for -token"},
		{"-certs made", "init, node, client, rotate and show"},
		{"-certs client", "takes no name"},
		{"-certs init x", "takes no name"},
		{"-certs init -a h:1", "-dkvAddr has no meaning for -certs"},
		{"-certs init -days 0", "from 1"},
		{"-get k -dir x", "-dir has no meaning for -get"},
		{"-get foo -a --", "-a needs a value"},
		{"-set foo bar -ttl 0", "more than 0"},
		{"-set foo bar -ttl -5", "more than 0"},
		{"-set foo bar -ttl soon", "not a duration"},
		{"-get foo -timeout 1e300", "out of range"},
		{"-get foo -timeout NaN", "out of range"},
		{"-get foo -level strong", "seq and lin"},
		{"-get foo -o xml", "text and json"},
		{"-get foo -tls=maybe", "true and false"},
		{"-get foo -caCert=", "empty"},
		{"-iter * -limit -5", "not a whole number"},
		{"-get foo -a http://h:1", "is a URL"},
		{"-get foo -a h", "not host:port"},
		{"-get foo -a :8080", "not host:port"},
		{"-get foo -a h:0", "port"},
		{"-get foo -a h:70000", "port"},
		{"-get foo -a h:1,,", "an address is empty"},
		{"-get foo -a h:1;h:2", "write a comma between several addresses"},
		{"-set foo bar -ttl 1000000000h", "out of range"},
		{"-set foo bar -ttl 5x", "not a duration"},
		{"-bench -workers 0", "from 1"},
		{"-bench -readRatio 1.5", "from 0 to 1"},
		{"-bench -zipf 1", "from 0 to 0.9999"},
		{"-bench -rate -1", "not a number from 0 to 1e+09"},
		{"-bench -valueSize -1", "from 0"},
		{"-bench -warmup -1", "negative"},
		{"-bench -progress -1", "negative"},
		{"-bench -ref a:1,b:2", "one address"},
		{"-bench -ref a", "not host:port"},
		{"-bench -preload=2", "true and false"},
		{"-bench -pids 1,x", "not a process id"},
		{"-bench -pids 0", "not a process id"},
		{"-bench -pids 7,7", "given twice"},
	}
	for _, tt := range tests {
		got := dkvctl(t, "", strings.Fields(tt.line)...)
		expect(t, got, outcome{code: exitUsage, stderr: tt.want})
	}
}

func TestHelpTellsOfEverything(t *testing.T) {
	full := dkvctl(t, "", "-help")
	bench := dkvctl(t, "", "help", "bench")
	if full.code != exitOK || full.stderr != "" || bench.code != exitOK {
		t.Fatalf("help fails: %+v", full)
	}
	for _, c := range options.Commands() {
		if strings.Contains(full.stdout, "-"+c.Name) == c.Hidden {
			t.Errorf("hidden commands are left out of the help, -%s: %t", c.Name, c.Hidden)
		}
		own := dkvctl(t, "", "-"+c.Name, "-help")
		if own.code != exitOK || !strings.HasPrefix(own.stdout, "Usage: dkvctl -"+c.Name) {
			t.Errorf("help of -%s is %+v", c.Name, own)
		}
	}
	for _, o := range options.Table() {
		if !strings.Contains(full.stdout+bench.stdout, "-"+o.Name) {
			t.Errorf("the help does not mention -%s", o.Name)
		}
	}
	for _, line := range strings.Split(full.stdout+bench.stdout, "\n") {
		if len(line) > options.HelpWidth {
			t.Errorf("longer than %d columns: %s", options.HelpWidth, line)
		}
	}
	expect(t, dkvctl(t, "", "help", "gett"), outcome{code: exitUsage, stderr: "did you mean -get?"})
}

func TestVersion(t *testing.T) {
	got := dkvctl(t, "", "--version")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "dkvctl ") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("version is %+v", got)
	}
	if got := dkvctl(t, "", "--version", "-o", "json"); !strings.HasPrefix(got.stdout, `{"version":"`) {
		t.Errorf("version is %+v", got)
	}
}
