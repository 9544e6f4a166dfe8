package ctl

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/dkvdb/dkv/internal/testkit/certs"
)

func TestTokenNeedsProtection(t *testing.T) {
	env := map[string]string{"DKV_TOKEN": "secret"}
	for _, addr := range []string{"192.0.2.1:8080", "db.example:8080", "127.0.0.1:1,192.0.2.1:8080"} {
		expect(t, dkvctl(t, addr, "-get", "k", "-token", "secret"), outcome{code: 2, stderr: "unencrypted"})
		expect(t, runMain(t.Context(), "", env, "-a", addr, "-get", "k"), outcome{code: 2, stderr: "unset DKV_TOKEN"})
	}
	expect(t, dkvctl(t, "", "-bench", "-token", "secret", "-ref", "192.0.2.1:1"), outcome{code: 2, stderr: "192.0.2.1:1 unencrypted"})
}

func TestTokenIsSent(t *testing.T) {
	f := startFake(t)
	env := map[string]string{"DKV_TOKEN": "from-env"}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"-get", "k"}, "Bearer from-env"},
		{[]string{"-get", "k", "-token", "from-flag"}, "Bearer from-flag"},
	}
	for _, tt := range tests {
		runMain(t.Context(), "", env, append([]string{"-a", f.addr}, tt.args...)...)
		if got := f.meta.Get("authorization"); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%v sends %q, want %q", tt.args, got, tt.want)
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
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", caFile, "-token", "t")...), outcome{stdout: "v\n"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", caFile, "-authority", "else.test")...), outcome{code: 1, stderr: "not else.test"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-caCert", otherFile)...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, append(mutual, "-tls")...), outcome{code: 1, stderr: "certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-timeout", "2s"), outcome{code: 1, stderr: "cannot reach"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", certFile), outcome{code: 2, stderr: "belong together"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", keyFile), outcome{code: 1, stderr: "no PEM certificate"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-caCert", filepath.Join(t.TempDir(), "none")), outcome{code: 1, stderr: "-caCert"})
	expect(t, dkvctl(t, f.addr, "-get", "k", "-cert", keyFile, "-key", certFile), outcome{code: 1, stderr: "-cert, -key"})
}
