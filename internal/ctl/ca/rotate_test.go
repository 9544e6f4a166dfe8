package ca

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/certs"
)

func TestRenewal(t *testing.T) {
	a := newAuthority(t)
	fresh := issueNode(t, a, "db1.example", "10.0.0.1")
	if due, err := a.Due(); err != nil || len(due) > 0 {
		t.Fatalf("due: %v, %v", due, err)
	}
	old := leaf(t, fresh)
	if err := a.Renew(fresh, 90); err != nil {
		t.Fatal(err)
	}
	renewed := leaf(t, fresh)
	if renewed.SerialNumber.Cmp(old.SerialNumber) == 0 || belongsTo(renewed, old) {
		t.Error("the certificate or its key is the former one")
	}
	if !slices.Equal(certs.Names(renewed), certs.Names(old)) || len(renewed.IPAddresses) != len(old.IPAddresses) || !slices.Equal(renewed.ExtKeyUsage, old.ExtKeyUsage) {
		t.Errorf("it carries %v, and carried %v", certs.Names(renewed), certs.Names(old))
	}
	if days := time.Until(renewed.NotAfter).Hours() / 24; days < 89 || days > 90 {
		t.Errorf("valid for %f days", days)
	}
	if info, err := os.Stat(KeyOf(fresh)); err != nil || info.Mode().Perm() != keyMode {
		t.Errorf("the key: %v, %v", info, err)
	}
	if left, _ := os.ReadDir(a.dir); len(left) != 4 {
		t.Errorf("files are left over: %v", left)
	}
}

// belongsTo reports whether two certificates have the same key.
func belongsTo(a, b *x509.Certificate) bool {
	return string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}

// A renewal that is interrupted between its two renames leaves the new key with the old
// certificate. The next one repairs the pair.
func TestInterruptedRenewal(t *testing.T) {
	a := newAuthority(t)
	file, other := issueNode(t, a, "db1"), issueNode(t, a, "db2")
	key, err := os.ReadFile(KeyOf(other))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{KeyOf(file): key, file + ".new": []byte("left over")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := Show([]string{file}, a.path(CertFile), ""); !strings.Contains(r[0].Problem, "is not its key") {
		t.Errorf("the problem is %q", r[0].Problem)
	}
	due, err := a.Due()
	if err != nil || !slices.Equal(due, []string{file}) {
		t.Fatalf("due: %v, %v", due, err)
	}
	if err := a.Renew(file, 0); err != nil {
		t.Fatal(err)
	}
	leaf(t, file)
}

func TestRenewalOfForeignCertificates(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	for _, file := range []string{issueNode(t, other, "db1"), a.path(CertFile), a.path(KeyFile), a.path("none.pem")} {
		if err := a.Renew(file, 0); err == nil {
			t.Errorf("%s was renewed", file)
		}
	}
}

// In each step of a change of the authority, hosts that have done it and hosts that have
// not accept each other.
func TestChangeOfTheAuthority(t *testing.T) {
	a := newAuthority(t)
	node, client := issueNode(t, a, "db1.example"), issueClient(t, a, "web")
	type host struct{ node, client, trusts string }
	hosts := []host{{node, client, a.path(CertFile)}} // as each step leaves them
	for _, want := range []Step{Announced, Switched, Finished} {
		dir := t.TempDir()
		done, _, err := a.Rotate(0)
		if err != nil || done != want {
			t.Fatalf("step %d, %v; want %d", done, err, want)
		}
		now := host{dir + "/node.pem", dir + "/client.pem", dir + "/ca.pem"}
		copyFiles(t, map[string]string{node: now.node, KeyOf(node): KeyOf(now.node), client: now.client, KeyOf(client): KeyOf(now.client), a.path(CertFile): now.trusts})
		if want == Announced {
			hosts = hosts[:0] // its files are the same, and nothing else came before
		}
		hosts = append(hosts, now)
		for _, server := range hosts[max(0, len(hosts)-2):] {
			for _, caller := range hosts[max(0, len(hosts)-2):] {
				if err := handshake(t, server.node, caller.client, server.trusts, caller.trusts, "db1.example"); err != nil {
					t.Errorf("after step %d: %v", want, err)
				}
			}
		}
	}
	if first, last := hosts[0], hosts[len(hosts)-1]; handshake(t, first.node, last.client, first.trusts, last.trusts, "db1.example") == nil {
		t.Error("a certificate of the former authority is accepted after the change")
	}
	if _, err := a.IssueClient("later", "", 0); err != nil {
		t.Error(err)
	}
	a.Close()
	again, err := Open(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func copyFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for from, to := range files {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The last step waits for certificates that were not renewed.
func TestChangeWithACertificateLeftBehind(t *testing.T) {
	a := newAuthority(t)
	node := issueNode(t, a, "db1")
	kept := t.TempDir()
	copyFiles(t, map[string]string{node: kept + "/node.pem", KeyOf(node): kept + "/node.key"})
	for range 2 {
		if _, _, err := a.Rotate(0); err != nil {
			t.Fatal(err)
		}
	}
	copyFiles(t, map[string]string{kept + "/node.pem": node, kept + "/node.key": KeyOf(node)})
	if _, _, err := a.Rotate(0); err == nil || !strings.Contains(err.Error(), "former authority") {
		t.Fatal(err)
	}
	due, err := a.Due()
	if err != nil || !slices.Equal(due, []string{node}) {
		t.Fatalf("due: %v, %v", due, err)
	}
	if err := a.Renew(node, 0); err != nil {
		t.Fatal(err)
	}
	if done, _, err := a.Rotate(0); err != nil || done != Finished {
		t.Errorf("step %d, %v", done, err)
	}
}

// The first step may be interrupted after it has written the next key.
func TestInterruptedAnnouncement(t *testing.T) {
	a := newAuthority(t)
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeKey(a.path(nextKey), key); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Step{Announced, Switched, Finished, Announced} {
		if done, _, err := a.Rotate(0); err != nil || done != want {
			t.Fatalf("step %d, %v; want %d", done, err, want)
		}
	}
}

func TestCertificatesEndWithTheirAuthority(t *testing.T) {
	a := newAuthority(t)
	days := 2 * AuthorityDays
	file, err := a.IssueClient("web", "", days)
	if err != nil {
		t.Fatal(err)
	}
	if c := leaf(t, file); c.NotAfter.After(a.cert.NotAfter) {
		t.Errorf("it is valid until %s, the authority until %s", c.NotAfter, a.cert.NotAfter)
	}
	a.cert.NotAfter = time.Now().Add(-time.Minute)
	if _, err := a.IssueClient("later", "", 1); err == nil || !strings.Contains(err.Error(), "rotate ca") {
		t.Error(err)
	}
}

// The authority's key stays where a link leads to it, and the step that replaces it may be interrupted.
func TestLinkedKeyOfTheAuthority(t *testing.T) {
	a := newAuthority(t)
	kept := filepath.Join(t.TempDir(), "ca.key")
	if err := errors.Join(os.Rename(a.path(KeyFile), kept), os.Symlink(kept, a.path(KeyFile))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Rotate(0); err != nil {
		t.Fatal(err)
	}
	next, err := ReadKey(a.path(nextKey))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if done, _, err := a.Rotate(0); err != nil || done != Switched {
			t.Fatalf("step %d, %v", done, err)
		}
		if to, err := os.Readlink(a.path(KeyFile)); err != nil || to != kept {
			t.Errorf("the link leads to %q, %v", to, err)
		}
		if key, err := ReadKey(kept); err != nil || !belongs(key, holder(a.trusted, next)) {
			t.Error("the link leads to another key", err)
		}
		// As after a crash before the next key was removed.
		if err := writeKey(a.path(nextKey), next); err != nil {
			t.Fatal(err)
		}
	}
}
