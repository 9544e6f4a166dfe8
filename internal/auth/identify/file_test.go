package identify

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/telemetry"
)

func TestOpenNeedsAValidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.yaml")
	log := telemetry.NewLogger(telemetry.LogOptions{Writer: new(strings.Builder)})
	if _, err := Open(path, Options{Log: log}); err == nil || !strings.Contains(err.Error(), "name a file that this user may read") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("identities: [{}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{Log: log}); err == nil || !strings.HasPrefix(err.Error(), "auth-file: "+path+":1: an identity without a name") {
		t.Error(err)
	}
}

// TestUnusableFileLeavesTheOneBefore replaces the file by others that are wrong, empty and
// absent.
func TestUnusableFileLeavesTheOneBefore(t *testing.T) {
	text, hash := newToken(t)
	f := open(t, entry("a", hash))
	changed := f.Changed()
	for _, wrong := range []string{"{}", "{name: a, grants: [{role: node}]}", ""} {
		f.write(wrong)
		if err := f.Reload(); err == nil {
			t.Errorf("%q is in use", wrong)
		}
		if err := f.Failure(); err != ErrUnusable {
			t.Errorf("%q: %v", wrong, err)
		}
		f.identify(bearing(text))
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil {
		t.Error("no file is in use")
	}
	f.identify(bearing(text))
	select {
	case <-changed:
		t.Error("streams hear of a change that is none")
	default:
	}
	if n := strings.Count(f.log.String(), "the one before stays in use"); n != 4 {
		t.Errorf("%d errors in the log:\n%s", n, f.log)
	}
	f.reload(entry("b", hash))
	if i := f.identify(bearing(text)); i.Name != "b" || f.Failure() != nil {
		t.Errorf("%+v, %v", i, f.Failure())
	}
}

// TestReloadsWhileCallsAreIdentified replaces the file below running calls: the token is in
// all of them, so no call may be rejected.
func TestReloadsWhileCallsAreIdentified(t *testing.T) {
	text, hash := newToken(t)
	f := open(t, entry("a", hash))
	done := make(chan struct{})
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			i := f.identify(bearing(text))
			for ended := false; !ended; {
				changed := f.Changed()
				if i = f.Current(i); i == nil {
					t.Error("the identity of a stream is gone")
					return
				}
				if _, err := f.Identify(bearing(text)); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-changed:
				case <-done:
					ended = true
				}
			}
		})
	}
	for n := range 50 {
		f.reload(entry("a", hash), entry(fmt.Sprint("b", n)))
	}
	close(done)
	calls.Wait()
}

func TestReadableFileIsWarnedOf(t *testing.T) {
	_, hash := newToken(t)
	f := open(t, entry("a", hash))
	if f.log.Len() > 0 {
		t.Errorf("a warning about a file with mode 0600: %s", f.log)
	}
	for mode, warned := range map[os.FileMode]bool{0o400: false, 0o640: false, 0o644: true, 0o660: true, 0o602: true} {
		if err := os.Chmod(f.path, mode); err != nil {
			t.Fatal(err)
		}
		f.log.Reset()
		f.warnOfReaders()
		if strings.Contains(f.log.String(), "chmod 600") != warned {
			t.Errorf("mode %#o: %q", mode, f.log)
		}
	}
}

// TestUnreadFilesAreTriedAgain replaces the file while the process has no file descriptor left: it
// takes effect once there are some, although it does not change again.
func TestUnreadFilesAreTriedAgain(t *testing.T) {
	f := open(t, "{name: one}", "{name: two}")
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		wait := func() { time.Sleep(5 * lookInterval); synctest.Wait() }
		wait()
		f.write("{name: one}")
		none := limit
		none.Cur = 0
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
			t.Fatal(err)
		}
		wait()
		if _, err := f.Vouched("two"); err != nil || f.Failure() == nil {
			t.Errorf("in use: %v; failure: %v", err, f.Failure())
		}
		if n, lines := f.counts.reloadFailures.Load(), strings.Count(f.log.String(), "cannot be used"); n != 1 || lines != 1 {
			t.Errorf("%d failures are counted and %d logged", n, lines)
		}
		restore()
		wait()
		if _, err := f.Vouched("two"); err == nil || f.Failure() != nil {
			t.Errorf("what was revoked is in use: %v; failure: %v", err, f.Failure())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestChangesAreSeen replaces the file by a rename, through a symbolic link on the way as
// Kubernetes does, and in place.
func TestChangesAreSeen(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	put("1/auth.yaml", "identities: [{name: one}]")
	put("2/auth.yaml", "identities: [{name: two}]")
	link("1")
	synctest.Test(t, func(t *testing.T) {
		f, err := Open(filepath.Join(dir, "data", "auth.yaml"), Options{Log: telemetry.NewLogger(telemetry.LogOptions{Writer: new(strings.Builder)})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		expect := func(name string) {
			t.Helper()
			time.Sleep(3 * lookInterval)
			synctest.Wait()
			if _, err := f.Vouched(name); err != nil {
				t.Errorf("%s is not in use", name)
			}
		}
		expect("one")
		link("2")
		expect("two")
		put("2/auth.yaml", "identities: [{name: three}]")
		expect("three")
		put("2/auth.yaml.new", "identities: [{name: four}]")
		if err := os.Rename(filepath.Join(dir, "2/auth.yaml.new"), filepath.Join(dir, "2/auth.yaml")); err != nil {
			t.Fatal(err)
		}
		expect("four")
		put("2/auth.yaml", "identities: [")
		expect("four")
		if n := f.counts.reloadFailures.Load(); n != 1 {
			t.Errorf("a file that cannot be used was read %d times", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestMetrics(t *testing.T) {
	_, hash := newToken(t)
	f := open(t, entry("a", hash), "{name: b}")
	f.rejects("an unknown token", bearing(token.New()))
	f.rejects("no token", auth.Credentials{Authorization: "x"})
	f.write("{}")
	if err := f.Reload(); err == nil {
		t.Error("an identity without a name is in use")
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(f)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{"dkv_auth_identities": 2, "dkv_auth_reload_failures_total": 1}
	for _, why := range reasons {
		want["dkv_auth_rejections_total "+string(why)] = 0
	}
	want["dkv_auth_rejections_total malformed"], want["dkv_auth_rejections_total unknown token"] = 1, 1
	if !maps.Equal(got, want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
}
