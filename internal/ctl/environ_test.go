package ctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

func TestEnvironmentFillsInWhatIsLeftOut(t *testing.T) {
	f := startFake(t)
	f.put("k", "v")
	env := map[string]string{"DKVCTL_ADDR": f.addr}
	expect(t, runMain(t.Context(), "", env, "-get", "k"), outcome{stdout: "v\n"})
	env["DKVCTL_ADDR"] = closedPort(t)
	expect(t, runMain(t.Context(), "", env, "-a", f.addr, "-get", "k"), outcome{stdout: "v\n"})
	env["DKVCTL_ADDR"] = "http://x"
	expect(t, runMain(t.Context(), "", env, "-get", "k"), outcome{code: exitUsage, stderr: "DKVCTL_ADDR=http://x"})
}

func TestTokenComesFromAFile(t *testing.T) {
	f := startFake(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct {
		env  map[string]string
		args []string
	}{
		{map[string]string{"DKVCTL_TOKEN_FILE": file}, nil},
		{map[string]string{"DKVCTL_TOKEN_FILE": "other", "DKVCTL_TOKEN": "other"}, []string{"-tokenFile", file}},
	} {
		inv, err := options.Parse(append(run.args, "-a", f.addr, "-get", "k"))
		if err != nil {
			t.Fatal(err)
		}
		o := inv.Options
		err = o.FromEnvironment(func(name string) (string, bool) { v, ok := run.env[name]; return v, ok })
		if err != nil || o.Token != "secret" {
			t.Errorf("%v %q: token %q, %v", run.env, run.args, o.Token, err)
		}
	}
	expect(t, dkvctl(t, f.addr, "-get", "k", "-tokenFile", file+"x"), outcome{code: 1, stderr: "the token cannot be read"})
}

func TestHealthAsksOneNodeAlone(t *testing.T) {
	f := startFake(t)
	expect(t, dkvctl(t, f.addr, "-health"), outcome{stdout: "OK\n"})
	f.health.Shutdown()
	expect(t, dkvctl(t, f.addr, "-health"), outcome{code: 1, stderr: f.addr + " does not serve: NOT_SERVING"})
	expect(t, dkvctl(t, closedPort(t), "-health"), outcome{code: 1, stderr: "cannot reach"})
}
