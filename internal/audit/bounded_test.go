package audit

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A host that makes too many calls does not keep those of others out of the log, nor its
// rejected calls its own administrative ones, and each call is accounted for.
func TestHostsAreApart(t *testing.T) {
	l, path, _ := logIn(t)
	noisy, quiet := pause, pause
	quiet.Address = "[::1]:5"
	const calls = 3 * linesAtOnce
	begun := time.Now()
	for range calls {
		l.Refused(noisy, "PermissionDenied", "no")
	}
	begin(t, l, noisy).End("OK", "")
	l.Refused(quiet, "PermissionDenied", "no")
	lines := linesOf(t, path)
	if n := len(lines); lines[n-2]["code"] != "OK" || lines[n-1]["address"] != quiet.Address {
		t.Errorf("the last lines are %v and %v", lines[n-2], lines[n-1])
	}
	if n, most := len(lines), linesAtOnce+linesPerSecond*(int(time.Since(begun).Seconds())+1)+2; n > most {
		t.Errorf("%d lines, want at most %d", n, most)
	}
	l.tell(time.Now())
	accounted := 0
	for _, n := range linesOf(t, path) {
		if n["suppressed"] != nil {
			accounted += int(n["suppressed"].(float64))
		}
		if n["code"] == "PermissionDenied" && n["address"] == noisy.Address {
			accounted++
		}
	}
	if accounted != calls {
		t.Errorf("%d of %d calls are accounted for", accounted, calls)
	}
}

func TestQuietHostsAreForgotten(t *testing.T) {
	b := newBounded()
	now := time.Now()
	for i := range 3 * maxHosts {
		b.admit(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	if n := len(b.hosts); n > maxHosts+1 {
		t.Errorf("%d hosts are known", n)
	}
	for range 2 { // what is left out is told first
		b.take(now.Add(time.Hour))
	}
	if n := len(b.hosts); n != 0 {
		t.Errorf("%d hosts are not forgotten", n)
	}
}

func TestHostOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "2001:db8:1:2::7": "2001:db8:1:2::", "[fe80::1%eth0]:80": "fe80::", "192.0.2.1": "192.0.2.1", "@": "invalid IP", "": "invalid IP",
	} {
		if got := fmt.Sprint(hostOf(address)); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
