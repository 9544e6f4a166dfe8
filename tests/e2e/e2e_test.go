// Package e2e tests the programs dkvsrv and dkvctl with the commands that users type.
// Both run as processes of their own: the test binary starts itself again under their
// names, so that they are always the code under test.
package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dkvdb/dkv/internal/app"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/ctl"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"dkvsrv": serve,
		"dkvsrv-next": func() {
			command.Foresee()
			serve()
		},
		"dkvctl": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(ctl.Main(ctx, os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func serve() {
	os.Exit(app.Main(context.Background(), app.Process{
		Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}

// TestScripts runs testdata/*.txtar. Beside testscript's own commands there are:
//
//	serve NAME ARGS...        start dkvsrv and wait until it serves; $NAME is then its gRPC address,
//	                          $NAME_http its HTTP address; its log is NAME.log
//	halt NAME SIGNAL CODE     send a signal and wait for that exit code
//	signal NAME SIGNAL        send STOP, which pauses the node, or CONT
//	run CODE PROGRAM ARGS...  run to the end; the exit code must be CODE; writes the files out and err
//	get URL                   HTTP GET into the file out; fails unless the status is 2xx
//	form NAME... [ARGS]       start masters that form one cluster, and wait until they serve; ARGS begin with a dash.
//	                          $NAME_raft is then the master's Raft address, $CLUSTER the list of their urls
//	master NAME ARGS...       start a master, at $NAME_raft if it has one, with the cluster url $CLUSTER; does not wait
//	launch NAME ARGS...       start dkvsrv; does not wait
//	serving NAME...           wait until nodes serve that were started by master or launch
//	ends NAME CODE            wait until a node ends by itself with that exit code
//	until PATTERN PROGRAM...  run again and again until it succeeds and what it prints matches; or get URL
//	logged NAME PATTERN       wait until the node's log has a match
//	ports NAME...             set each $NAME to an address that no other test uses, in ascending order
//	damage GLOB BYTES         flip the bits of a byte in each file that matches and has at least so many bytes
//
// With "env RELEASE=-next" the nodes that are started from there on are of a release to come, which has a
// newer version of the log: $NEXT instead of $PRESENT.
//
// $HOST is a loopback address that no other test process uses.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	host, err := testkit.Host()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			// The script does not see the machine's own environment.
			kept := env.Vars[:0]
			for _, v := range env.Vars {
				if !strings.HasPrefix(v, "DKV") {
					kept = append(kept, v)
				}
			}
			// Nor a registry at the file's addresses, as that of make cluster.
			env.Vars = append(kept, "ROOT="+root, "CONFIG="+filepath.Join(root, "dkvsrv.yaml"), "HOST="+host,
				"DKV_DISCOVERY_SERVICE_CLIENT_DISCOVERY_SERVICE_ADDR="+net.JoinHostPort(host, "8001"),
				fmt.Sprint("PRESENT=", command.NewestFormat), fmt.Sprint("NEXT=", command.NewestFormat+1))
			s := newServers()
			env.Defer(s.killAll)
			env.Values[serversKey{}] = s
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":  cmdServe,
			"halt":   cmdHalt,
			"signal": cmdSignal,
			"run":    cmdRun,
			"get":    cmdGet,
			"damage": cmdDamage,

			"form":    cmdForm,
			"launch":  cmdLaunch,
			"master":  cmdMaster,
			"serving": cmdServing,
			"ends":    cmdEnds,
			"until":   cmdUntil,
			"logged":  cmdLogged,
			"ports":   cmdPorts,
		},
	})
}
