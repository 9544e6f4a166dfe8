package ctl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestTokenNeedsProtection(t *testing.T) {
	env := map[string]string{"DKVCTL_TOKEN": "secret"}
	for _, addr := range []string{"192.0.2.1:8080", "db.example:8080", "127.0.0.1:1,192.0.2.1:8080"} {
		expect(t, runMain(t.Context(), "", env, "-a", addr, "-get", "k"), outcome{code: 2, stderr: "unencrypted"})
	}
	expect(t, runMain(t.Context(), "", env, "-bench", "-ref", "192.0.2.1:1"), outcome{code: 2, stderr: "192.0.2.1:1 unencrypted"})
}

// A token on the command line is seen by other users, so that no option takes one. The
// error does not repeat it.
func TestTokenIsNotTyped(t *testing.T) {
	for _, line := range []string{"-get k -token s3cr3t", "-token s3cr3t -get k", "-token=s3cr3t -get k", "-get k --token=s3cr3t"} {
		got := dkvctl(t, "", strings.Fields(line)...)
		expect(t, got, outcome{code: 2, stderr: "DKVCTL_TOKEN_FILE"})
		if strings.Contains(got.stderr, "s3cr3t") {
			t.Errorf("the error shows the token: %s", got.stderr)
		}
	}
}

func TestTokenIsSent(t *testing.T) {
	f := startFake(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DKVCTL_TOKEN": "from-env"}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-get", "k"}, "Bearer from-env"},
		{[]string{"-get", "k", "-tokenFile", file}, "Bearer from-file"},
	}
	for _, tt := range tests {
		runMain(t.Context(), "", env, append([]string{"-a", f.addr}, tt.args...)...)
		if got := f.meta.Get("authorization"); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%v sends %q, want %q", tt.args, got, tt.want)
		}
	}
}

// What cannot be a token is not sent, and not shown.
func TestBrokenTokens(t *testing.T) {
	f := startFake(t)
	good := token.New()
	other := "-"
	if good[20] == '-' {
		other = "_"
	}
	for name, c := range map[string]struct{ token, want string }{
		"two lines": {"one\ntwo", "no token"},
		"cut":       {good[:len(good)-1], "a part is missing"},
		"mistyped":  {good[:20] + other + good[21:], "copy it again"},
	} {
		got := runMain(t.Context(), "", map[string]string{"DKVCTL_TOKEN": c.token}, "-a", f.addr, "-get", "k")
		expect(t, got, outcome{code: 1, stderr: c.want})
		if strings.Contains(got.stderr, c.token) || f.calls("Get") > 0 {
			t.Errorf("%s: the token was shown or sent: %s", name, got.stderr)
		}
	}
}

func TestAuthorityIsSent(t *testing.T) {
	f := startFake(t)
	dkvctl(t, f.addr, "-get", "k", "-authority", "orders.dkv")
	if got := f.meta.Get(":authority"); len(got) != 1 || got[0] != "orders.dkv" {
		t.Errorf("authority is %q", got)
	}
}

func TestTLS(t *testing.T) {
	authority := certs.New(t)
	cert := authority.Issue(t, "dkv.test", "127.0.0.1")
	caFile, certFile, keyFile := authority.File, cert.CertFile, cert.KeyFile
	f := startFake(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert.Certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool})))
	f.put("k", "v")
	otherFile := certs.New(t).File
	mutual := []string{"-get", "k", "-timeout", "10s", "-cert", certFile, "-key", keyFile}

	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", caFile)...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", caFile, "-authority", "dkv.test")...), outcome{stdout: "v\n"})
	withToken := append([]string{"-a", f.addr, "-caCert", caFile}, mutual...)
	expect(t, runMain(t.Context(), "", map[string]string{"DKVCTL_TOKEN": "t"}, withToken...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", caFile, "-authority", "else.test")...), outcome{code: 1, stderr: "not else.test"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", otherFile)...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-tls")...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-timeout", "2s"), outcome{code: 1, stderr: "cannot reach"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", certFile), outcome{code: 2, stderr: "belong together"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", keyFile), outcome{code: 1, stderr: "no PEM certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", filepath.Join(t.TempDir(), "none")), outcome{code: 1, stderr: "-caCert"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", keyFile, "-key", certFile), outcome{code: 1, stderr: "-cert, -key"})
}

// TestTLSFaults holds that each disagreement about TLS gets an error that says what to do.
func TestTLSFaults(t *testing.T) {
	authority, other := certs.New(t), certs.New(t)
	cert, foreign := authority.Issue(t, "dkv.test", "127.0.0.1"), other.Issue(t, "client")
	expired := expiredCertificate(t)
	serve := func(cert tls.Certificate, ask tls.ClientAuthType) string {
		return startFake(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: ask, ClientCAs: authority.Pool}))).addr
	}
	open, mutual, old, plain := serve(cert.Certificate, tls.NoClientCert), serve(cert.Certificate, tls.RequireAndVerifyClientCert),
		serve(expired.Certificate, tls.NoClientCert), startFake(t).addr
	for name, c := range map[string]struct {
		addr, args, want string
	}{
		"unknown authority":             {open, "-tls", "-caCert FILE (DKVCTL_TLS_CA_FILE) names the authority that has issued it"},
		"another authority":             {open, "-caCert " + other.File, "none of the authorities in " + other.File + " has issued its certificate"},
		"another name":                  {open, "-authority else.test -caCert " + authority.File, "valid for dkv.test, not else.test; issue a certificate with that name"},
		"expired":                       {old, "-caCert " + expired.CertFile, "renew the node's certificate (dkvctl -certs rotate)"},
		"TLS to a clear port":           {plain, "-caCert " + authority.File, "it does not speak TLS: leave out -tls"},
		"clear to a TLS port":           {open, "", "does it require TLS? -caCert FILE"},
		"no certificate":                {mutual, "-caCert " + authority.File, "accepts only clients with a certificate: -cert FILE -key FILE"},
		"certificate that is not known": {mutual, "-caCert " + authority.File + " -cert " + foreign.CertFile + " -key " + foreign.KeyFile, "does not accept the certificate in " + foreign.CertFile},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range []string{"-get k", "-status", "-bench get -duration 1s", "-watch"} {
				line := strings.Fields(command + " -timeout 20s " + c.args)
				got := dkvctl(t, c.addr, line...)
				if got.code != exitFailed || !strings.Contains(got.stdout+got.stderr, c.want) {
					t.Errorf("%s: %+v, want %q", command, got, c.want)
				}
			}
		})
	}
}

// expiredCertificate returns a certificate that has signed itself, as if an hour had passed
// since it ended.
func expiredCertificate(t *testing.T) certs.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "expired.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certs.Certificate{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, CertFile: file}
}

// A caller that is not known, or has no right, learns what it has shown and tries no other
// node with the same.
func TestRejectedCallers(t *testing.T) {
	unknown, denied, second := startFake(t), startFake(t), startFake(t)
	unknown.fail = func(string) error { return status.Error(codes.Unauthenticated, "the token is not known") }
	denied.fail = func(string) error { return status.Error(codes.PermissionDenied, "reports has no role write") }
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(f *fake) string { return f.addr + "," + second.addr }
	env := map[string]string{"DKVCTL_TOKEN": "secret"}
	expect(t, dkvctl(t, at(unknown), "-get", "k"), outcome{code: 1, stderr: "neither a token nor a certificate was sent: -tokenFile FILE"})
	expect(t, dkvctl(t, at(unknown), "-set", "k", "v", "-tokenFile", file), outcome{code: 1, stderr: "the token is not known; the token came from " + file})
	expect(t, runMain(t.Context(), "", env, "-a", at(unknown), "-get", "k"), outcome{code: 1, stderr: "the token came from DKVCTL_TOKEN"})
	expect(t, dkvctl(t, at(denied), "-set", "k", "v"), outcome{code: 1, stderr: "PermissionDenied: reports has no role write"})
	if n := second.asked(); n > 0 {
		t.Errorf("another node was asked %d times", n)
	}
	got := dkvctl(t, unknown.addr, "-status")
	if got.code != exitFailed || !strings.Contains(got.stdout, "REJECTED") || !strings.Contains(got.stdout, "the token is not known") {
		t.Errorf("%+v", got)
	}
}

// TestEveryCommandShowsItsCredentials holds that all calls of all commands, those to members
// that another node has named included, go over TLS and carry the token.
func TestEveryCommandShowsItsCredentials(t *testing.T) {
	authority := certs.New(t)
	cert, own := authority.Issue(t, "127.0.0.1"), authority.Issue(t, "client")
	serve := func() *fake {
		return startFake(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert.Certificate},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool})))
	}
	f, other := serve(), serve()
	f.role, f.cluster, f.members = "master", "c1", members(leader, follower)
	other.role, other.cluster, other.id = "master", "c1", "2"
	f.members.Nodes[1].Address, f.members.Nodes[2].Address = f.addr, other.addr
	env := map[string]string{"DKVCTL_TOKEN": "secret", "DKVCTL_TLS_CA_FILE": authority.File, "DKVCTL_TLS_CERT_FILE": own.CertFile, "DKVCTL_TLS_KEY_FILE": own.KeyFile}
	for _, node := range []*fake{f, other} {
		node.fail = func(method string) error {
			node.mu.Lock()
			defer node.mu.Unlock()
			if got := node.meta.Get("authorization"); len(got) != 1 || got[0] != "Bearer secret" {
				t.Errorf("%s carries %q", method, got)
			}
			return nil
		}
	}
	for _, line := range []string{"-verify", "-set k v", "-get k", "-del k", "-mset a 1 b 2", "-mget a b", "-cas", "-incr n", "-iter *", "-keys *", "-watch -from 1 -limit 1",
		"-addNode http://h:1 -progress 1ms", "-removeNode http://h:1", "-listNodes", "-clusterInfo", "-releaseDatabase orders", "-transferLeader", "-stepDown", "-snapshot",
		"-setTiming lan", "-logLevel warn", "-status", "-health", "-pauseWrites", "-resumeWrites", "-resetClock", "-resync", "-backup p", "-restore p",
		"-bench mixed -count 20 -warmup 0 -keyCount 5 -workers 2"} {
		before := f.asked()
		args := strings.Fields(line)
		if line == "-cas" { // of a key that is absent
			args = []string{"-cas", "c", "", "1"}
		}
		got := runMain(t.Context(), "", env, append([]string{"-a", f.addr, "-timeout", "20s"}, args...)...)
		if got.code != exitOK || f.asked() == before {
			t.Errorf("%s: %+v, %d calls", line, got, f.asked()-before)
		}
	}
	if other.calls("GetNodeStatus") == 0 {
		t.Error("the other member was not asked")
	}
}
