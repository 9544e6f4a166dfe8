package bootstrap

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:9021":             "127.0.0.1:9021",
		" HTTP://Host-1.Example.ORG:9021/ ": "host-1.example.org:9021",
		"https://a:1":                       "a:1",
		"a.b.:65535":                        "a.b:65535",
		"127.0.0.1:09021":                   "127.0.0.1:9021",
		"http://[::1]:9021":                 "[::1]:9021",
		"[2001:DB8:0:0::1]:1":               "[2001:db8::1]:1",
		"[::ffff:10.0.0.1]:1":               "10.0.0.1:1",
		"dkv_0.dkv:9021":                    "dkv_0.dkv:9021",
	} {
		if got, err := ParseURL(text); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "http://", "a", "http://a", ":1", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a:x", "a:1/x", "a:1//", "http://a:1?x", "http://a:1#x",
		"ftp://a:1", "u:p@a:1", "http://u:p@a:1", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "a b:1", "::1:1", "-a:1", "a..b:1", ".a:1", "ä:1",
		"a:1,b:2", "[a]b:1", strings.Repeat("a", 254) + ":1", "http://http://a:1", "a\x00:1", "\xff:1",
	} {
		if got, err := ParseURL(text); err == nil || !errors.Is(err, ErrConfig) {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
	if _, err := ParseURL("http://user:secret@a:1"); strings.Contains(err.Error(), "secret") {
		t.Errorf("a password is told: %v", err)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"http://a:1", "[::1]:1", "[fe80::1%eth0]:1", "[fe80::1%[x]:1", "A.:1/", "http://u:p@a:1", "[::ffff:0.0.0.0]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseURL(text)
		if err != nil {
			if !errors.Is(err, ErrConfig) || got != "" {
				t.Fatalf("%q: %q, %v", text, got, err)
			}
			return
		}
		for _, again := range []string{got, FormatURL(got), strings.ToUpper(FormatURL(got)) + "/"} {
			if strings.Contains(got, "%") && again != got && again != FormatURL(got) {
				continue // the zone of an address has a case
			}
			if second, err := ParseURL(again); second != got || err != nil {
				t.Fatalf("%q is %q, and that again %q, %v", text, got, second, err)
			}
		}
	})
}

func TestOwnURL(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		switch host {
		case "n1":
			return []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1")}, nil
		case "n2":
			return []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil
		}
		return nil, errors.New("no such host")
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1%eth0")}
	for _, c := range []struct {
		name  string
		peers []string
		want  string
		err   string
	}{
		{"one", []string{"http://10.0.0.2:1", "10.0.0.1:1", "http://10.0.0.3:1"}, "http://10.0.0.1:1", ""},
		{"loopback", []string{"127.0.0.1:2", "10.0.0.3:1"}, "http://127.0.0.1:2", ""},
		{"localhost", []string{"localhost:2", "10.0.0.3:1"}, "http://localhost:2", ""},
		{"mapped", []string{"[::ffff:10.0.0.1]:2"}, "http://10.0.0.1:2", ""},
		{"zone", []string{"[fe80::1]:2"}, "http://[fe80::1]:2", ""},
		{"name", []string{"n1:9", "n2:9", "n3:9"}, "http://n1:9", ""},
		{"twice the same", []string{"http://10.0.0.1:1", "10.0.0.1:1"}, "http://10.0.0.1:1", ""},
		{"loopback ports", []string{"127.0.0.1:2", "127.0.0.1:1", "10.0.0.3:1"}, "", "2 entries of nexus-cluster-url are this machine (http://127.0.0.1:1, http://127.0.0.1:2)"},
		{"ports", []string{"10.0.0.1:2", "10.0.0.1:1"}, "", "choose one with nexus-node-url"},
		{"none", []string{"10.0.0.7:1", "n3:1"}, "", "no entry of nexus-cluster-url (http://10.0.0.7:1, http://n3:1)"},
		{"empty", nil, "", "no entry of nexus-cluster-url (empty)"},
		{"malformed", []string{"x"}, "", "not a Raft address"},
	} {
		got, err := OwnURL(t.Context(), c.peers, Host{Addrs: addrs, Lookup: lookup})
		if got != c.want || (err == nil) != (c.err == "") || err != nil && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if _, err := OwnURL(t.Context(), []string{"n1:9"}, Host{Addrs: addrs}); err == nil {
		t.Error("a name is resolved without a resolver")
	}
}

func TestCanonicalPeers(t *testing.T) {
	got, err := canonicalPeers([]string{"http://b:2", "A:1/", "b:02", "https://a:1"})
	if want := []string{"http://a:1", "http://b:2"}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}
