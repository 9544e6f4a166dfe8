package ctl

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// closedPort is an address where nothing listens.
func closedPort(t *testing.T) string { return testkit.Refusing(t) }

// deafPort accepts connections, as a stopped process does, and says nothing.
func deafPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestServerThatIsDown(t *testing.T) {
	addr := closedPort(t)
	got := dkvctl(t, addr, "-set", "foo", "bar")
	expect(t, got, outcome{code: 1, stderr: "cannot reach " + addr + ": dial tcp " + addr + ": connect: connection refused; is dkvsrv running there?"})
	if strings.Contains(got.stderr, "outcome unknown") {
		t.Error("nothing was sent, so the outcome is known")
	}
}

func TestServerThatSaysNothing(t *testing.T) {
	addr := deafPort(t)
	testkit.Timely(t, func() error {
		began := time.Now()
		expect(t, dkvctl(t, addr, "-get", "foo", "-timeout", "200ms"), outcome{code: 1, stderr: "cannot reach " + addr + ": no answer in time"})
		if took := time.Since(began); took > 5*time.Second {
			return fmt.Errorf("it took %s with a time limit of 200 ms", took)
		}
		return nil
	})
}

func TestNextAddressWhereTheFirstIsDown(t *testing.T) {
	f := startFake(t)
	for _, first := range []string{closedPort(t), deafPort(t)} {
		addrs := first + "," + f.addr
		expect(t, dkvctl(t, addrs, "-set", "foo", "bar", "-timeout", "1s"), outcome{stdout: "OK\n"})
		expect(t, dkvctl(t, addrs, "-get", "foo", "-timeout", "1s"), outcome{stdout: "bar\n"})
		expect(t, dkvctl(t, addrs, "-iter", "*", "-timeout", "1s"), outcome{stdout: "foo => bar\n"})
	}
}

func TestAllAddressesDown(t *testing.T) {
	a, b := closedPort(t), closedPort(t)
	expect(t, dkvctl(t, a+","+b, "-get", "foo"), outcome{code: 1, stderr: "none of the 2 addresses served the request: " + a + ": dial tcp"})
}

// said is a server's error that says what became of a mutation.
func said(code codes.Code, text string, reasons ...string) error {
	st := status.New(code, text)
	for _, reason := range reasons {
		var err error
		if st, err = st.WithDetails(&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: reason}); err != nil {
			panic(err)
		}
	}
	return st.Err()
}

func TestWhenTheNextAddressIsAsked(t *testing.T) {
	set, get, iter := []string{"-set", "k", "v"}, []string{"-get", "k"}, []string{"-iter", "k"}
	tests := []struct {
		name   string
		err    error
		args   []string
		method string
		next   bool
		stderr string
	}{
		{"write, not applied", said(codes.Unavailable, "no leader (not applied)", kv.ReasonNotApplied), set, "Put", true, ""},
		{"write, not the owner", said(codes.Unavailable, "no leader", kv.ReasonNotOwner), set, "Put", true, ""},
		{"write, outcome unknown", said(codes.Unavailable, "a bug (outcome unknown); see the log", kv.ReasonUnknown), set, "Put", false, "Unavailable: a bug (outcome unknown); see the log\n"},
		{"write, a reason of a later release", said(codes.Unavailable, "leader lost", "LATER"), set, "Put", false, "Unavailable: leader lost\n"},
		{"write, said in the text alone", status.Error(codes.Unavailable, "no leader (not applied)"), set, "Put", false, "outcome unknown"},
		{"write, not said", status.Error(codes.Unavailable, "going down"), set, "Put", false, "Unavailable: going down; outcome unknown: it may have taken effect, or may still"},
		{"write, refused", said(codes.ResourceExhausted, "disk full; not applied", kv.ReasonNotApplied), set, "Put", false, "ResourceExhausted: disk full; not applied\n"},
		{"write, removed", said(codes.FailedPrecondition, "removed", kv.ReasonNotApplied, kv.ReasonRemoved), set, "Put", true, ""},
		{"write, removed meanwhile", said(codes.FailedPrecondition, "removed", kv.ReasonUnknown, kv.ReasonRemoved), set, "Put", false, "removed\n"},
		{"write, a slave", said(codes.FailedPrecondition, "a slave", kv.ReasonNotApplied, kv.ReasonSlave), set, "Put", true, ""},
		{"read, removed", said(codes.FailedPrecondition, "removed", kv.ReasonNotApplied, kv.ReasonRemoved), get, "Get", true, ""},
		{"write, internal", status.Error(codes.Internal, "oops"), set, "Put", false, "Internal: oops; outcome unknown"},
		{"write, not served", status.Error(codes.Unimplemented, "method Put"), set, "Put", false, "does not serve this request (method Put): is it"},
		{"read, unavailable", status.Error(codes.Unavailable, "starting"), get, "Get", true, ""},
		{"read, refused", status.Error(codes.FailedPrecondition, "too old"), get, "Get", false, "FailedPrecondition: too old\n"},
		{"read, internal", status.Error(codes.Internal, "oops"), get, "Get", false, "Internal: oops\n"},
		{"iterate, unavailable", status.Error(codes.Unavailable, "starting"), iter, "Iterate", true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first, second := startFake(t), startFake(t)
			second.put("k", "v")
			first.fail = func(string) error { return tt.err }
			got := dkvctl(t, first.addr+","+second.addr, tt.args...)
			asked := second.calls(tt.method) == 1
			if asked != tt.next || (got.code == exitOK) != tt.next || !strings.Contains(got.stderr, tt.stderr) || tt.next && got.stderr != "" {
				t.Errorf("the next address was asked: %v, want %v; %+v", asked, tt.next, got)
			}
			if first.calls(tt.method) != 1 {
				t.Errorf("the first address was asked %d times", first.calls(tt.method))
			}
		})
	}
}

// TestBackupOfTheNewestState: a master that a promotion has replaced makes backups too, which are all
// of the state of that day. It is asked only if no other node makes one.
func TestBackupOfTheNewestState(t *testing.T) {
	replaced, older, newest := startFake(t), startFake(t), startFake(t)
	replaced.of = []*serverpb.VBucketStatus{{VBucket: "default", Mode: "local", State: "failed", LagMillis: uint64((24 * time.Hour).Milliseconds())}}
	older.of = []*serverpb.VBucketStatus{{VBucket: "default", Mode: "raft", State: "serving", LagMillis: uint64((90 * time.Second).Milliseconds())}}
	expect(t, dkvctl(t, replaced.addr+","+older.addr, "-backup", "monday"), outcome{stdout: "OK\n"})
	if n, m := replaced.calls("Backup"), older.calls("Backup"); n != 0 || m != 1 {
		t.Errorf("%d backups at the master that was replaced, %d at one that has no majority", n, m)
	}
	expect(t, dkvctl(t, replaced.addr+","+newest.addr, "-backup", "monday"), outcome{stdout: "OK\n"})
	if n, m := replaced.calls("Backup"), newest.calls("Backup"); n != 0 || m != 1 {
		t.Errorf("%d backups at the master that was replaced, %d at the other node", n, m)
	}
	expect(t, dkvctl(t, replaced.addr+","+closedPort(t), "-backup", "monday"), outcome{stdout: "OK\n"})
	if n := replaced.calls("Backup"); n != 1 {
		t.Errorf("%d backups at the only node that answers", n)
	}
}

func TestRequestThatHangs(t *testing.T) {
	tests := []struct {
		args   []string
		unsure bool
	}{
		{[]string{"-set", "k", "v"}, true},
		{[]string{"-get", "k"}, false},
		{[]string{"-iter", "k"}, false},
	}
	for _, tt := range tests {
		f := startFake(t)
		release := make(chan struct{})
		f.fail = func(string) error { <-release; return nil }
		got := dkvctl(t, f.addr, append(tt.args, "-timeout", "1s")...)
		close(release)
		expect(t, got, outcome{code: 1, stderr: f.addr + " did not answer within 1s"})
		if strings.Contains(got.stderr, "outcome unknown") != tt.unsure {
			t.Errorf("%v ends with %q", tt.args, got.stderr)
		}
	}
}
