package ctl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
)

// The session of the specification, as typed.
func TestSession(t *testing.T) {
	f := startFake(t)
	steps := []struct {
		args []string
		want outcome
	}{
		{[]string{"-set", "foo", "bar"}, outcome{stdout: "OK\n"}},
		{[]string{"-get", "foo"}, outcome{stdout: "bar\n"}},
		{[]string{"-set", "hello", "world"}, outcome{stdout: "OK\n"}},
		{[]string{"-del", "foo"}, outcome{stdout: "OK\n"}},
		{[]string{"-iter", "*"}, outcome{stdout: "hello => world\n"}},
		{[]string{"-get", "foo"}, outcome{code: 3, stderr: "key not found\n"}},
		{[]string{"-set", "empty", ""}, outcome{stdout: "OK\n"}},
		{[]string{"-get", "empty"}, outcome{stdout: "\n"}},
		{[]string{"-set", "", "x"}, outcome{code: 1, stderr: "InvalidArgument: the key is empty; not applied\n"}},
		{[]string{"mset", "a1", "x", "a2", "y", "b1", "z"}, outcome{stdout: "OK\n"}},
		{[]string{"mset", "a1", "x", "a2"}, outcome{code: 2, stderr: `"a2" has no value`}},
		{[]string{"mget", "b1", "none", "a1"}, outcome{stdout: "b1 => z\na1 => x\n"}},
		{[]string{"iter", "a"}, outcome{stdout: "a1 => x\na2 => y\n"}},
		{[]string{"iter", "a*"}, outcome{stdout: "a1 => x\na2 => y\n"}},
		{[]string{"iter", "a*", "a2"}, outcome{stdout: "a2 => y\n"}},
		{[]string{"iter", "zz"}, outcome{}},
		{[]string{"-keys", "*"}, outcome{stdout: "a1\na2\nb1\nempty\nhello\n"}},
		{[]string{"-k", "", "-limit", "2", "-reverse"}, outcome{stdout: "hello\nempty\n"}},
		{[]string{"-i", "*", "-limit", "3"}, outcome{stdout: "a1 => x\na2 => y\nb1 => z\n"}},
		{[]string{"-cas", "c", "", "1"}, outcome{stdout: "OK\n"}},
		{[]string{"-cas", "c", "2", "3"}, outcome{code: exitMismatch, stderr: "not updated"}},
		{[]string{"-cas", "c", "1", "2"}, outcome{stdout: "OK\n"}},
		{[]string{"-incr", "n"}, outcome{stdout: "1\n"}},
		{[]string{"-incr", "n", "41"}, outcome{stdout: "42\n"}},
		{[]string{"-incr", "n", "-50"}, outcome{stdout: "-8\n"}},
		{[]string{"-incr", "n", "much"}, outcome{code: 2, stderr: "not a whole number"}},
		{[]string{"-backup", "monday"}, outcome{stdout: "OK\n"}},
		{[]string{"-backup", "b\xff"}, outcome{code: 1, stderr: "the request cannot be sent: string field contains invalid UTF-8 (not applied)"}},
		{[]string{"-backup", "/etc"}, outcome{code: 1, stderr: "outside of backup-dir; not applied"}},
		{[]string{"-restore", "monday"}, outcome{stdout: "OK\n"}},
		{[]string{"-restore", "monday", "-force"}, outcome{stdout: "OK\n"}},
		{[]string{"-addNode", "http://h:1"}, outcome{stdout: "OK\n"}},
		{[]string{"-removeNode", "http://h:1"}, outcome{stdout: "OK\n"}},
		{[]string{"-listNodes"}, outcome{code: 1, stderr: "FailedPrecondition: this node stands alone\n"}},
	}
	for _, step := range steps {
		t.Run(strings.Join(step.args, " "), func(t *testing.T) { expect(t, dkvctl(t, f.addr, step.args...), step.want) })
	}
	if got := dkvctl(t, startFake(t).addr, "-backup", "old"); got.code != exitOK || got.stdout != "OK\n" || got.stderr != "warning: the backup is of a state of yesterday\n" {
		t.Errorf("a backup of an old state: %+v", got)
	}
	if want := []string{"monday", "/etc", "monday", "by force monday", "add http://h:1", "remove http://h:1"}; !slices.Equal(f.paths, want) {
		t.Errorf("the server saw %q, want %q", f.paths, want)
	}
}

func TestSessionAsJSON(t *testing.T) {
	f := startFake(t)
	steps := []struct {
		args []string
		want outcome
	}{
		{[]string{"-set", "foo", "b\"r"}, outcome{stdout: `{"status":"OK","index":1}` + "\n"}},
		{[]string{"-set", "raw\xff", "\x00\xfe"}, outcome{stdout: `{"status":"OK","index":2}` + "\n"}},
		{[]string{"-get", "foo"}, outcome{stdout: `{"key":"foo","found":true,"value":"b\"r","index":2,"age_millis":0}` + "\n"}},
		{[]string{"-get", "none"}, outcome{code: 3, stdout: `{"key":"none","found":false,"index":2,"age_millis":0}` + "\n", stderr: "key not found\n"}},
		{[]string{"-iter", "*"}, outcome{stdout: `{"key":"foo","value":"b\"r"}` + "\n" + `{"key_base64":"cmF3/w==","value_base64":"AP4="}` + "\n"}},
		{[]string{"-mget", "foo"}, outcome{stdout: `{"key":"foo","value":"b\"r"}` + "\n"}},
		{[]string{"-keys", "f"}, outcome{stdout: `{"key":"foo"}` + "\n"}},
		{[]string{"-cas", "foo", "x", "y"}, outcome{code: exitMismatch, stdout: `{"updated":false,"index":2}` + "\n", stderr: "not updated"}},
		{[]string{"-cas", "foo", "b\"r", "y"}, outcome{stdout: `{"updated":true,"index":3}` + "\n"}},
		{[]string{"-incr", "n", "-7"}, outcome{stdout: `{"value":-7,"index":4}` + "\n"}},
		{[]string{"-del", "n"}, outcome{stdout: `{"status":"OK","index":5}` + "\n"}},
		{[]string{"-pauseWrites"}, outcome{stdout: `{"status":"OK"}` + "\n"}},
	}
	for _, step := range steps {
		t.Run(strings.Join(step.args, " "), func(t *testing.T) {
			expect(t, dkvctl(t, f.addr, append(step.args, "-o", "json")...), step.want)
		})
	}
}

func TestSetReadsStandardInput(t *testing.T) {
	f := startFake(t)
	value := "line\nline\n\x00\xff"
	expect(t, runMain(t.Context(), value, nil, "-a", f.addr, "-set", "k", "-stdin"), outcome{stdout: "OK\n"})
	expect(t, dkvctl(t, f.addr, "-get", "k"), outcome{stdout: value + "\n"})
}

func TestTimeToLive(t *testing.T) {
	f := startFake(t)
	before := uint64(time.Now().Unix())
	for i, args := range [][]string{{"-set", "k0", "v"}, {"-mset", "k1", "v", "x", "y"}, {"-cas", "k2", "", "v"}} {
		expect(t, dkvctl(t, f.addr, append(args, "-ttl", "90s")...), outcome{stdout: "OK\n"})
		after := uint64(time.Now().Unix())
		// Rounded up: never less than was asked for.
		if ts := f.pairs[fmt.Sprintf("k%d", i)].ExpireTS; ts < before+90 || ts > after+91 {
			t.Errorf("%v expires at %d, want from %d to %d", args, ts, before+90, after+91)
		}
	}
	expect(t, dkvctl(t, f.addr, "-set", "longest", "v", "-ttl", "9223372036"), outcome{stdout: "OK\n"})
	if ts := f.pairs["longest"].ExpireTS; ts < before+9223372036 || ts > before+9223372036+60 {
		t.Errorf("a key that lives for 292 years expires at %d", ts)
	}
	expect(t, dkvctl(t, f.addr, "-set", "forever", "v"), outcome{stdout: "OK\n"})
	if ts := f.pairs["forever"].ExpireTS; ts != 0 {
		t.Errorf("a key without -ttl expires at %d", ts)
	}
}

func TestReadLevels(t *testing.T) {
	f := startFake(t)
	f.put("k", "v")
	for _, args := range [][]string{{"-get", "k"}, {"-get", "k", "-level", "seq"}, {"-iter", "k"}, {"-keys", "k", "-level", "seq"}} {
		if got := dkvctl(t, f.addr, args...); got.code != exitOK {
			t.Fatalf("%v: %+v", args, got)
		}
	}
	lin, seq := serverpb.ReadConsistency_LINEARIZABLE, serverpb.ReadConsistency_SEQUENTIAL
	if want := []serverpb.ReadConsistency{lin, seq, lin, seq}; !slices.Equal(f.reads, want) {
		t.Errorf("levels are %v, want %v", f.reads, want)
	}
}

func TestIterationPrintsManyMessages(t *testing.T) {
	f := startFake(t)
	var want strings.Builder
	for i := range 1001 {
		key := fmt.Sprintf("key%04d", i)
		f.put(key, "v")
		want.WriteString(key + " => v\n")
	}
	expect(t, dkvctl(t, f.addr, "-iter", "key*"), outcome{stdout: want.String()})
}

func TestIterationThatBreaksOffIsNoSuccess(t *testing.T) {
	f, other := startFake(t), startFake(t)
	for _, key := range []string{"a", "b", "c", "d"} {
		f.put(key, "1")
		other.put(key, "2")
	}
	f.breakAfter = 1
	expect(t, dkvctl(t, f.addr+","+other.addr, "-iter", "*"),
		outcome{code: 1, stdout: "a => 1\nb => 1\n", stderr: "its result is incomplete: going down; with the last key that was printed as START it goes on"})
	if other.calls("Iterate") != 0 {
		t.Error("the iteration began again elsewhere: its result would hold keys twice")
	}
}

func TestServerOfTheOriginalKind(t *testing.T) {
	// It does not say found, and mirrors failures inside the response.
	if err := nodes.CheckStatus(&serverpb.Status{Code: -1, Message: "bad"}); status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "bad") {
		t.Errorf("error %v", err)
	}
	if err := nodes.CheckStatus(nil); err != nil {
		t.Errorf("no status gives %v", err)
	}
}
