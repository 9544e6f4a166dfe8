package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/ctl"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// hostsVariable tells dkvsrv and dkvctl which addresses stand for the names of pods: words,
// each name followed by its address. It takes the place of a cluster's DNS.
const hostsVariable = "TEST_HOSTS"

// names replaces the names of pods by addresses, and back.
type names struct{ to, from *strings.Replacer }

func hosts() names {
	words := strings.Fields(os.Getenv(hostsVariable))
	back := make([]string, 0, len(words))
	for i := 0; i+1 < len(words); i += 2 {
		back = append(back, words[i+1], words[i])
	}
	return names{strings.NewReplacer(words...), strings.NewReplacer(back...)}
}

// dkvctl is dkvctl as it runs in a pod.
func dkvctl() {
	h := hosts()
	var args []string
	for _, arg := range os.Args[1:] {
		args = append(args, h.to.Replace(arg))
	}
	env := func(key string) (string, bool) {
		value, ok := os.LookupEnv(key)
		return h.to.Replace(value), ok
	}
	var stdout, stderr bytes.Buffer
	code := ctl.Main(context.Background(), args, env, os.Stdin, &stdout, &stderr)
	fmt.Print(h.from.Replace(stdout.String()))
	fmt.Fprint(os.Stderr, h.from.Replace(stderr.String()))
	os.Exit(code)
}

// pods runs what the pods of a chart would run, as processes of this host.
type pods struct {
	dir, path string
	dns       []string // as in hostsVariable
	addresses map[string][]string
}

// newPods reserves three addresses for each pod, of which a group's name is a part: those
// of gRPC, HTTP and Raft.
func newPods(t *testing.T, names ...string) *pods {
	t.Helper()
	free, err := testkit.Addresses(3 * len(names))
	if err != nil {
		t.Fatal(err)
	}
	p := &pods{dir: t.TempDir(), addresses: make(map[string][]string)}
	p.path = filepath.Join(p.dir, "bin")
	for _, name := range names {
		p.addresses[name], free = free[:3], free[3:]
		group := name[:strings.LastIndex(name, "-")]
		for i, address := range p.addresses[name] {
			p.dns = append(p.dns, fmt.Sprintf("%s.%s:808%d", name, group, i), address)
		}
	}
	if err := os.Mkdir(p.path, 0o700); err != nil {
		t.Fatal(err)
	}
	p.know(t, "*") // every name at once
	return p
}

// know sets which names of hosts are found, with the pod's own address: those that a pattern
// of the shell matches.
func (p *pods) know(t *testing.T, pattern string) {
	t.Helper()
	p.program(t, "getent", "case $2 in "+pattern+") echo \"$POD_IP $2\" ;; *) exit 2 ;; esac")
}

// program makes a script take the place of a program.
func (p *pods) program(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.path, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// start starts a pod with the script and the environment of a container, and its
// configuration.
func (p *pods) start(t *testing.T, name string, c container, config string) *process.Process {
	t.Helper()
	home := filepath.Join(p.dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "dkvsrv.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := process.Start(process.Options{
		Program: "/bin/sh", Args: append(c.Command[1:], c.Args...), Dir: home,
		Env: p.environ(name, c), Log: filepath.Join(p.dir, name+".log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run.Kill)
	return run
}

// environ is the environment of a container; pod is empty for that of a job.
func (p *pods) environ(pod string, c container) []string {
	dns := p.dns
	if own := p.addresses[pod]; own != nil {
		home := filepath.Join(p.dir, pod)
		dns = append([]string{"0.0.0.0:8080", own[0], "0.0.0.0:8081", own[1], "localhost:8080", own[0], "/var/lib/dkv", home, "/etc/dkv/node", home}, dns...)
	}
	env := append(process.Environ(), "PATH="+p.path+":"+os.Getenv("PATH"), "HOSTNAME="+pod, hostsVariable+"="+strings.Join(dns, " "))
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return env
}

// run runs a command of a container to its end, and returns what it prints.
func (p *pods) run(t *testing.T, pod string, c container, command ...string) string {
	t.Helper()
	out, err := p.command(t, pod, c, command...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", pod, err, out)
	}
	return string(out)
}

func (p *pods) command(t *testing.T, pod string, c container, command ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = p.environ(pod, c)
	return cmd
}
