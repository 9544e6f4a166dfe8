package ctl

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TestCertsServeAndCall holds that a node and a client with certificates of -certs accept
// each other, before and after a renewal.
func TestCertsServeAndCall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	// What a connection needs is of no importance to -certs.
	env := map[string]string{"DKVCTL_TLS_CA_FILE": filepath.Join(dir, "ca.pem"), "DKVCTL_TOKEN_FILE": "none"}
	certs := func(want string, args ...string) {
		t.Helper()
		got := runMain(t.Context(), "", env, append([]string{"-certs", "-dir", dir}, args...)...)
		if got.code != exitOK || got.stderr != "" || !strings.Contains(got.stdout, want) {
			t.Fatalf("%v: %+v, want %q", args, got, want)
		}
	}
	certs("dkvctl -certs node HOST ... -dir "+dir, "init")
	certs("--tls-cert-file", "node", "db1.example", "10.0.0.1")
	certs("-cert", "client", "web")
	certs("365 days left", "show")
	node, client := filepath.Join(dir, "node-db1.example"), filepath.Join(dir, "client-web")
	call := func(ca string) {
		t.Helper()
		f := startFake(t, grpc.Creds(credentials.NewTLS(serverConfig(t, node, ca))))
		f.put("k", "v")
		got := runMain(t.Context(), "", nil, "-a", f.addr, "-get", "k", "-timeout", "20s", "-caCert", ca, "-cert", client+".pem", "-key", client+".key")
		expect(t, got, outcome{stdout: "v\n"})
	}
	call(filepath.Join(dir, "ca.pem"))
	certs("No certificate in "+dir+" is due", "rotate")
	certs("90 days left", "rotate", node+".pem", client+".pem", "-days", "90")
	call(filepath.Join(dir, "ca.pem"))
	for _, step := range []string{"Step 1 of 3", "Step 2 of 3", "Step 3 of 3"} {
		certs(step, "rotate", "ca")
		call(filepath.Join(dir, "ca.pem"))
	}
	expect(t, dkvctl(t, "", "-certs", "client", "dkv-node", "-dir", dir), outcome{code: exitFailed, stderr: "all rights"})
	expect(t, dkvctl(t, "", "-certs", "init", "-dir", dir), outcome{code: exitFailed, stderr: "exists already"})
	expect(t, dkvctl(t, "", "-certs", "node", "-dir", t.TempDir()), outcome{code: exitFailed, stderr: "dkvctl -certs init"})
}

// TestCertsSayWhatWasRenewed holds that a renewal which fails names the certificates whose former
// keys are gone.
func TestCertsSayWhatWasRenewed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	certs := func(code int, args ...string) outcome {
		t.Helper()
		got := dkvctl(t, "", append([]string{"-certs", "-dir", dir}, args...)...)
		if got.code != code {
			t.Fatalf("%v: %+v", args, got)
		}
		return got
	}
	certs(exitOK, "init")
	certs(exitOK, "client", "a")
	certs(exitOK, "client", "b")
	certs(exitOK, "rotate", "ca")
	a, b := filepath.Join(dir, "client-a.pem"), filepath.Join(dir, "client-b.pem")
	if err := os.MkdirAll(b+".new/x", 0o700); err != nil { // in the way of the new file
		t.Fatal(err)
	}
	for _, args := range [][]string{{"rotate", a, b}, {"rotate", "ca"}} {
		got := certs(exitFailed, args...)
		if !strings.HasPrefix(got.stdout, a+"  client") || !strings.Contains(got.stdout, "copy each with its key") ||
			strings.Contains(got.stdout, b) || !strings.Contains(got.stderr, b) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	expect(t, certs(exitFailed, "rotate", "ca"), outcome{code: exitFailed, stderr: "former authority"})
}

func serverConfig(t *testing.T, node, ca string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(node+".pem", node+".key")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(ca)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

func TestShowFindsProblems(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	for _, line := range []string{"init", "node", "client web"} {
		if got := dkvctl(t, "", append([]string{"-certs", "-dir", dir}, strings.Fields(line)...)...); got.code != exitOK {
			t.Fatalf("%+v", got)
		}
	}
	got := dkvctl(t, "", "-certs", "show", "-dir", dir, "-o", "json")
	var shown struct {
		Files []struct {
			File, Kind string
			DaysLeft   int `json:"days_left"`
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &shown); err != nil || got.code != exitOK {
		t.Fatalf("%v: %+v", err, got)
	}
	kinds := ""
	for _, f := range shown.Files {
		kinds += f.Kind + " "
	}
	if kinds != "authority client node " || shown.Files[0].DaysLeft != 3650 {
		t.Errorf("%+v", shown)
	}
	if err := os.WriteFile(filepath.Join(dir, "node-localhost.key"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	got = dkvctl(t, "", "-certs", "show", "-dir", dir)
	if got.code != exitFailed || !strings.Contains(got.stderr, "no PEM private key") || !strings.Contains(got.stdout, "PROBLEM") {
		t.Errorf("%+v", got)
	}
	got = dkvctl(t, "", "-certs", "show", filepath.Join(dir, "ca.key"), "-dir", dir)
	if got.code != exitFailed || !strings.Contains(got.stderr, "but a PRIVATE KEY") {
		t.Errorf("%+v", got)
	}
}
