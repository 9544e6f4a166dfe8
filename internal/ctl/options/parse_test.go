package options

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

func TestEverySpellingOfEveryCommand(t *testing.T) {
	for _, c := range Commands() {
		args := slices.Repeat([]string{"x"}, c.min)
		names := append([]string{c.Name}, c.aliases...)
		for _, name := range names {
			for _, dashes := range []string{"-", "--", ""} {
				inv, err := Parse(append([]string{dashes + name}, args...))
				if err != nil || inv.Command.Name != c.Name || !slices.Equal(inv.Args, args) && c.min > 0 {
					t.Errorf("%s%s is parsed as %+v, %v", dashes, name, inv, err)
				}
			}
		}
	}
}

func TestWordsBecomeArguments(t *testing.T) {
	tests := []struct {
		line    string
		command string
		args    string // joined by |
	}{
		{"-set foo bar", "set", "foo|bar"},
		{"set foo get", "set", "foo|get"},
		{"-a h:1 set foo bar", "set", "foo|bar"},
		{"set foo -a h:1 bar", "set", "foo|bar"},
		{"set foo bar -a=h:1", "set", "foo|bar"},
		{"-s foo -5", "set", "foo|-5"},
		{"-incr n -5", "incr", "n|-5"},
		{"-incr n -1e3", "incr", "n|-1e3"},
		{"-set foo -bar", "set", "foo|-bar"},
		{"-set -foo -bar", "set", "-foo|-bar"},
		{"-set foo -", "set", "foo|-"},
		{"-set -- -a -b", "set", "-a|-b"},
		{"-set foo -- -get", "set", "foo|-get"},
		{"-get -- --", "get", "--"},
		{"-mget a b c -level seq", "mget", "a|b|c"},
		{"-set foo bar=baz", "set", "foo|bar=baz"},
		{"-set foo -x=y", "set", "foo|-x=y"},
		{"--addNode http://h:1", "addNode", "http://h:1"},
		{"add-node http://h:1", "addNode", "http://h:1"},
		{"-ADDNODE http://h:1", "addNode", "http://h:1"},
		{"-set -help", "help", "set"},
		{"-help -set", "help", "set"},
		{"help set", "help", "set"},
		{"-h", "help", ""},
		{"--version", "version", ""},
		{"-set foo -stdin", "set", "foo"},
	}
	for _, tt := range tests {
		inv, err := Parse(strings.Fields(tt.line))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(inv.Args, "|"); inv.Command.Name != tt.command || got != tt.args {
			t.Errorf("%s is -%s %s, want -%s %s", tt.line, inv.Command.Name, got, tt.command, tt.args)
		}
	}
	inv, err := Parse([]string{"-set", "", ""})
	if err != nil || !slices.Equal(inv.Args, []string{"", ""}) {
		t.Errorf("empty arguments give %v, %v", inv, err)
	}
}

func TestOptionsTakeTheirValues(t *testing.T) {
	inv, err := Parse(strings.Fields("-get k -dkvAddr a:1,b:2 --timeout=1.5 -level SEQ -o json -authority me -tls -tokenFile t"))
	if err != nil {
		t.Fatal(err)
	}
	o := inv.Options
	if !slices.Equal(o.Addrs, []string{"a:1", "b:2"}) || o.Timeout != 1500*time.Millisecond || o.Level != kv.Sequential ||
		!o.JSON || o.Authority != "me" || !o.TLS || o.TokenFile != "t" {
		t.Errorf("options are %+v", o)
	}
	inv, err = Parse(strings.Fields("-bench get -stop-on-error -keyCount 5 -rate 10.5 -preload=false -tls=false"))
	if err != nil {
		t.Fatal(err)
	}
	o = inv.Options
	if !o.Bench.StopOnError || o.Bench.Keys != 5 || o.Bench.Rate != 10.5 || o.Preload == nil || *o.Preload || o.TLS {
		t.Errorf("options are %+v", o)
	}
	if d := DefaultOptions(); !slices.Equal(d.Addrs, []string{"127.0.0.1:8080"}) || d.Level != kv.Linearizable || d.JSON {
		t.Errorf("defaults are %+v", d)
	}
}

func TestParseDuration(t *testing.T) {
	tests := map[string]time.Duration{"5": 5 * time.Second, "0.25": 250 * time.Millisecond, "10s": 10 * time.Second, "1m30s": 90 * time.Second,
		"200ms": 200 * time.Millisecond, "-1": -time.Second}
	for text, want := range tests {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
	}
}

// TestRatesThatNoClockKeeps are rejected.
func TestRatesThatNoClockKeeps(t *testing.T) {
	for rate, taken := range map[string]bool{"1e9": true, "1e10": false, "1e300": false, "-1": false, "NaN": false} {
		if _, err := Parse([]string{"-bench", "put", "-rate", rate}); (err == nil) != taken {
			t.Errorf("%s: %v", rate, err)
		}
	}
}

// A name that meant two things would make lines ambiguous.
func TestNamesAreUnique(t *testing.T) {
	seen := make(map[string]string)
	claim := func(name, owner string) {
		key := name
		if len(name) > 1 {
			key = fold(name)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s share the name %s", owner, other, name)
		}
		seen[key] = owner
	}
	for _, c := range Commands() {
		for _, n := range append([]string{c.Name}, c.aliases...) {
			claim(n, "command "+c.Name)
		}
	}
	for _, o := range Table() {
		for _, n := range append([]string{o.Name}, o.aliases...) {
			claim(n, "option "+o.Name)
		}
		for _, c := range o.commands {
			if (&parser{commands: Commands()}).findCommand(c) == nil {
				t.Errorf("option %s belongs to a command %s that is not there", o.Name, c)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{"-set foo bar", "-a x:1 -iter * -limit 5", "-- x", "-set=-", "---", "-bench put -rate 1", "-=", "-set -=x --"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		inv, err := Parse(strings.Split(line, " "))
		if err != nil {
			var usage *UsageError
			if !errors.As(err, &usage) {
				t.Errorf("%q gives %v, which is no usage error", line, err)
			}
			return
		}
		if c, n := inv.Command, len(inv.Args); c.max >= 0 && n > c.max || n < c.min-1 {
			t.Errorf("%q passes with %d arguments for -%s", line, n, c.Name)
		}
	})
}
