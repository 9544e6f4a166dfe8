package server

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

var suppressedIn = regexp.MustCompile(` suppressed=(\d+)`)

// accounted is how many calls a log tells of, by lines of their own or by number.
func accounted(lines []string) (n int) {
	for _, line := range lines {
		if strings.Contains(line, "msg=audit ") {
			n++
		}
		if m := suppressedIn.FindStringSubmatch(line); m != nil {
			more, _ := strconv.Atoi(m[1])
			n += more
		}
	}
	return n
}

// Administrative calls cannot fill the disk with lines, and each of them is accounted
// for.
func TestAuditLinesAreBounded(t *testing.T) {
	r := newRig(t)
	node := serverpb.NewDKVNodeClient(r.conn)
	const calls = 3 * auditsAtOnce
	begun := time.Now()
	for range calls {
		_, _ = node.PauseWrites(t.Context(), &emptypb.Empty{})
	}
	testkit.Eventually(t, "all calls are accounted for", func() bool { return accounted(r.audit.Lines()) == calls })
	seconds := int(time.Since(begun).Seconds()) + 1
	if n := len(r.audit.Lines()); n < auditsAtOnce || n > auditsAtOnce+(auditsPerSecond+1)*seconds {
		t.Errorf("%d lines in %d seconds", n, seconds)
	}
}

// A host that makes too many calls does not keep those of others out of the log, and
// quiet hosts are forgotten.
func TestAuditedHostsAreApart(t *testing.T) {
	out := &testkit.Log{}
	l := newAuditLog(logger(out))
	now := time.Now()
	noisy, quiet := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range 2 * auditsAtOnce {
		l.write(noisy, now, "op", "PauseWrites")
	}
	l.write(quiet, now, "op", "Restore")
	if lines := out.Lines(); len(lines) != auditsAtOnce+1 || !strings.Contains(lines[auditsAtOnce], "Restore") {
		t.Errorf("%d lines, the last is %s", len(lines), lines[len(lines)-1])
	}
	l.tell(now)
	if lines := out.Lines(); !strings.Contains(lines[len(lines)-1], "host=192.0.2.1 suppressed=500") {
		t.Errorf("the last line is %s", lines[len(lines)-1])
	}
	for i := range 3 * auditedHosts {
		l.write(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now, "op", "PauseWrites")
	}
	if n := len(l.hosts); n > auditedHosts+1 {
		t.Errorf("%d hosts are known", n)
	}
	for range 2 { // what is suppressed is told first
		l.tell(now.Add(time.Hour))
	}
	if n := len(l.hosts); n != 0 {
		t.Errorf("%d hosts are not forgotten", n)
	}
}
