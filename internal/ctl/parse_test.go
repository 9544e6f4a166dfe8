package ctl

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

func TestEverySpellingOfEveryCommand(t *testing.T) {
	for _, c := range commandTable() {
		args := slices.Repeat([]string{"x"}, c.min)
		names := append([]string{c.name}, c.aliases...)
		for _, name := range names {
			for _, dashes := range []string{"-", "--", ""} {
				inv, err := parse(append([]string{dashes + name}, args...))
				if err != nil || inv.command.name != c.name || !slices.Equal(inv.args, args) && c.min > 0 {
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
		inv, err := parse(strings.Fields(tt.line))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(inv.args, "|"); inv.command.name != tt.command || got != tt.args {
			t.Errorf("%s is -%s %s, want -%s %s", tt.line, inv.command.name, got, tt.command, tt.args)
		}
	}
	inv, err := parse([]string{"-set", "", ""})
	if err != nil || !slices.Equal(inv.args, []string{"", ""}) {
		t.Errorf("empty arguments give %v, %v", inv, err)
	}
}

func TestOptionsTakeTheirValues(t *testing.T) {
	inv, err := parse(strings.Fields("-get k -dkvAddr a:1,b:2 --timeout=1.5 -level SEQ -o json -authority me -tls -token t"))
	if err != nil {
		t.Fatal(err)
	}
	o := inv.options
	if !slices.Equal(o.addrs, []string{"a:1", "b:2"}) || o.timeout != 1500*time.Millisecond || o.level != kv.Sequential ||
		!o.json || o.authority != "me" || !o.tls || o.token != "t" {
		t.Errorf("options are %+v", o)
	}
	inv, err = parse(strings.Fields("-bench get -stop-on-error -keyCount 5 -rate 10.5 -preload=false -tls=false"))
	if err != nil {
		t.Fatal(err)
	}
	o = inv.options
	if !o.bench.StopOnError || o.bench.Keys != 5 || o.bench.Rate != 10.5 || o.preload == nil || *o.preload || o.tls {
		t.Errorf("options are %+v", o)
	}
	if d := defaultOptions(); !slices.Equal(d.addrs, []string{"127.0.0.1:8080"}) || d.level != kv.Linearizable || d.json {
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
	for _, c := range commandTable() {
		for _, n := range append([]string{c.name}, c.aliases...) {
			claim(n, "command "+c.name)
		}
	}
	for _, o := range optionTable() {
		for _, n := range append([]string{o.name}, o.aliases...) {
			claim(n, "option "+o.name)
		}
		for _, c := range o.commands {
			if (&parser{commands: commandTable()}).findCommand(c) == nil {
				t.Errorf("option %s belongs to a command %s that is not there", o.name, c)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{"-set foo bar", "-a x:1 -iter * -limit 5", "-- x", "-set=-", "---", "-bench put -rate 1", "-=", "-set -=x --"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		inv, err := parse(strings.Split(line, " "))
		if err != nil {
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Errorf("%q gives %v, which is no usage error", line, err)
			}
			return
		}
		if c, n := inv.command, len(inv.args); c.max >= 0 && n > c.max || n < c.min-1 {
			t.Errorf("%q passes with %d arguments for -%s", line, n, c.name)
		}
	})
}
