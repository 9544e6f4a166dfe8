package ctl

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

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
	for name, c := range map[string]struct{ token, want string }{
		"two lines": {"one\ntwo", "no token"},
		"cut":       {good[:len(good)-1], "a part is missing"},
		"mistyped":  {good[:20] + "-" + good[21:], "copy it again"},
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
