// Package deploy tests what is in the folder deploy with the programs that use it: the
// rules and dashboards for Prometheus against Prometheus and real nodes.
package deploy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// dkvsrv is the name under which the test binary starts itself as a node.
const dkvsrv = "dkvsrv"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		dkvsrv: func() {
			var args []string
			for _, arg := range os.Args[1:] {
				args = append(args, hosts().to.Replace(arg))
			}
			os.Exit(app.Main(context.Background(), app.Process{
				Args: args, Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
			}))
		},
		"dkvctl": dkvctl,
	})
}

// root is the project's folder.
const root = "../.."

// run runs a program to its end, in deploy/prometheus.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(scraped.Program(t, name), args...)
	cmd.Dir = filepath.Join(root, "deploy/prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, fmt.Sprint(args), err, out)
	}
}
