package deploy

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// composeFile is a file of deploy/compose. A key that is not here is an error.
type composeFile struct {
	Name     string
	Node     composeService `yaml:"x-node"`
	Services map[string]composeService
	Volumes  map[string]struct{}
}

type composeService struct {
	Image           string
	Hostname        string
	Command         []string
	Ports           []string
	Volumes         []string
	Environment     map[string]string
	Restart         string
	StopGracePeriod string `yaml:"stop_grace_period"`
	Ulimits         map[string]int
}

func readCompose(t *testing.T, name string) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose", name))
	if err != nil {
		t.Fatal(err)
	}
	var f composeFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// published is a port of a container at a port of this host.
var published = regexp.MustCompile(`^127\.0\.0\.1:(\d+):(808[012])$`)

// Each node is reached at three ports in a row of this host alone, keeps its data in a volume
// of its own, and gets the time to drain.
func TestComposeServices(t *testing.T) {
	for _, name := range []string{"one.yaml", "pair.yaml", "cluster.yaml", "regions.yaml"} {
		f := readCompose(t, name)
		if f.Name == "" || len(f.Services) != len(f.Volumes) {
			t.Errorf("%s: name %q, %d services, %d volumes", name, f.Name, len(f.Services), len(f.Volumes))
		}
		taken := make(map[int]string)
		for node, s := range f.Services {
			if grace, err := time.ParseDuration(s.StopGracePeriod); err != nil || grace < 20*time.Second {
				t.Errorf("%s: %s: stop_grace_period %q, %v", name, node, s.StopGracePeriod, err)
			}
			if s.Image != "${DKV_IMAGE:-dkv:latest}" || s.Hostname != node || s.Restart == "" || s.Ulimits["nofile"] < 65536 {
				t.Errorf("%s: %s: %+v", name, node, s)
			}
			if _, declared := f.Volumes[node]; !declared || !slices.Equal(s.Volumes, []string{node + ":/var/lib/dkv"}) {
				t.Errorf("%s: %s: volumes %q", name, node, s.Volumes)
			}
			first := 0
			for i, port := range s.Ports {
				m := published.FindStringSubmatch(port)
				if m == nil || m[2] != strconv.Itoa(8080+i) {
					t.Fatalf("%s: %s: port %q", name, node, port)
				}
				host, _ := strconv.Atoi(m[1])
				if first = cmp.Or(first, host); host != first+i || taken[host] != "" {
					t.Errorf("%s: %s: port %d, which begins at %d and %q has", name, node, host, first, taken[host])
				}
				taken[host] = node
			}
			if len(s.Ports) != 3 {
				t.Errorf("%s: %s has %d ports", name, node, len(s.Ports))
			}
		}
	}
}

// What the containers run, run as processes of this host: every node serves, and what is
// written at one node is read at all that have the data.
func TestComposeCommandsServe(t *testing.T) {
	for name, reads := range map[string]map[string][]string{
		"one.yaml":     {"node": nil},
		"pair.yaml":    {"node1": {"node2"}},
		"cluster.yaml": {"master2": {"slave1", "slave2"}},
		"regions.yaml": {"east3": {"west1", "west2", "west3"}},
	} {
		t.Run(name, func(t *testing.T) {
			at := startCompose(t, readCompose(t, name))
			for writer, readers := range reads {
				put(t, at[writer])
				for _, reader := range append(readers, writer) {
					mustRead(t, reader, at[reader])
				}
			}
		})
	}
}

// startCompose starts each service as a process, with the ports of the containers at
// addresses of this host, and returns the nodes' gRPC addresses once all of them serve.
func startCompose(t *testing.T, f composeFile) map[string]string {
	t.Helper()
	free, err := testkit.Addresses(3 * len(f.Services))
	if err != nil {
		t.Fatal(err)
	}
	var replaced []string
	own, at := make(map[string][]string), make(map[string]string)
	for node := range f.Services {
		own[node], free = free[:3], free[3:]
		at[node] = own[node][0]
		for i, address := range own[node] {
			replaced = append(replaced, fmt.Sprintf("%s:808%d", node, i), address)
		}
	}
	everywhere := strings.NewReplacer(replaced...)
	dir := t.TempDir()
	var started []*process.Process
	for node, s := range f.Services {
		here := strings.NewReplacer("0.0.0.0:8080", own[node][0], "0.0.0.0:8081", own[node][1])
		args := []string{"--db-folder", filepath.Join(dir, node)}
		for _, arg := range s.Command {
			args = append(args, everywhere.Replace(here.Replace(arg)))
		}
		env := append(process.Environ(), "DKV_ALLOW_INSECURE=data")
		for k, v := range s.Environment {
			env = append(env, k+"="+v)
		}
		p, err := process.Start(process.Options{Program: dkvsrv, Args: args, Env: env, Dir: dir, Log: filepath.Join(dir, node+".log")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		started = append(started, p)
	}
	for _, p := range started {
		if _, err := p.Await(); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

func put(t *testing.T, address string) {
	t.Helper()
	client := serverpb.NewDKVClient(scraped.Dial(t, address))
	var err error
	if !testkit.Soon(func() bool { // a master may wait for the registry, and for its standby
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = client.Put(ctx, &serverpb.PutRequest{Key: []byte("foo"), Value: []byte("bar")}, grpc.WaitForReady(true))
		return err == nil
	}) {
		t.Fatalf("not within %v: a write at %s: %v", testkit.Patience, address, err)
	}
}

// mustRead waits until a node's own copy has what put has written.
func mustRead(t *testing.T, node, address string) {
	t.Helper()
	client := serverpb.NewDKVClient(scraped.Dial(t, address))
	testkit.Eventually(t, node+" has the key", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := client.Get(ctx, &serverpb.GetRequest{Key: []byte("foo"), ReadConsistency: serverpb.ReadConsistency_SEQUENTIAL})
		return err == nil && string(r.GetValue()) == "bar"
	})
}
