package alerts

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit/certs"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

const identities = "identities:\n  - name: anonymous\n    grants: [{role: read}]\n"

func causesOfSecurity(t *testing.T, fired map[string]bool) {
	next, dir, disk := addressesOf(t, 3), t.TempDir(), small(t, 8)
	ca := certs.New(t)
	hosts := []string{certs.NodeName, "localhost", "127.0.0.1"}
	short := ca.Sign(t, certs.Request{Hosts: hosts, NotAfter: time.Now().Add(24 * time.Hour)})
	long := ca.Sign(t, certs.Request{Hosts: hosts})
	cert, key, auth := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "auth.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := func(c certs.Certificate) {
		for from, to := range map[string]string{c.CertFile: cert, c.KeyFile: key} {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			write(to, string(text))
		}
	}
	install(long)
	write(auth, identities)
	certified := scraped.NewNode(dir, "certified", next(), next(), "--tls-mode", "permissive", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-file", ca.File)
	guarded := scraped.NewNode(dir, "guarded", next(), next(), "--auth-file", auth, "--audit-log", filepath.Join(disk, "audit.log"))
	open := scraped.NewNode(dir, "open", next(), next())
	w := alone(t, fired, certified, guarded, open)

	renew := func(c certs.Certificate) {
		install(c)
		_ = certified.Signal(syscall.SIGHUP)
	}
	w.cause(t, "a certificate is valid for another day", []string{"DKVCertificateExpires"}, func() { renew(short) }, func() { renew(long) })
	w.cause(t, "allow-insecure is true", []string{"DKVOpenToAll"}, func() {
		open.End(syscall.SIGTERM)
		open.Options.Args = append(open.Options.Args, "--allow-insecure=true")
		open.Start(t)
	}, func() {
		open.End(syscall.SIGTERM)
		open.Options.Args = append(open.Options.Args, "--allow-insecure=false")
		open.Start(t)
	})
	change := func(text string) {
		write(auth, text)
		_ = guarded.Signal(syscall.SIGHUP)
	}
	w.cause(t, "the auth-file is damaged", []string{"DKVAuthFileUnusable"}, func() { change("identities: [") }, func() { change(identities) })

	var stop context.CancelFunc
	w.cause(t, "a program tries tokens", []string{"DKVCredentialsGuessed"}, func() { stop = guess(t, guarded.HTTP) }, func() { stop() })
	w.cause(t, "the disk of the audit log is full", []string{"DKVAuditIncomplete"}, func() {
		fillUp(t, disk, 0)
		stop = guess(t, guarded.HTTP)
	}, func() {
		stop()
		freeAgain(t, disk)
	})
}

// guess sends wrong tokens until it is stopped.
func guess(t *testing.T, address string) (stop context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		scraped.Forever(t, func(context.Context, int) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health", nil)
			if err != nil || ctx.Err() != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer wrong")
			if resp, err := http.DefaultClient.Do(r); err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	return stop
}
