package deploy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/testkit/process"
)

// manifest is what these tests read of an object of Kubernetes.
type manifest struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Data map[string]string
	Spec struct {
		Replicas            int
		ServiceName         string `yaml:"serviceName"`
		PodManagementPolicy string `yaml:"podManagementPolicy"`
		MinReady            int    `yaml:"minReadySeconds"`
		MaxUnavailable      int    `yaml:"maxUnavailable"`
		Template            podTemplate
		JobTemplate         struct {
			Spec struct{ Template podTemplate }
		} `yaml:"jobTemplate"`
	}
}

type podTemplate struct {
	Spec struct {
		Grace      int `yaml:"terminationGracePeriodSeconds"`
		Containers []container
		Affinity   struct{ PodAntiAffinity map[string]any }
	}
}

type container struct {
	Command, Args []string
	Env           []struct{ Name, Value string }
	Liveness      probe `yaml:"livenessProbe"`
	Readiness     probe `yaml:"readinessProbe"`
	Startup       probe `yaml:"startupProbe"`
	Lifecycle     struct {
		PreStop struct{ Exec struct{ Command []string } } `yaml:"preStop"`
	}
}

type probe struct {
	HTTPGet struct{ Path, Port, Scheme string } `yaml:"httpGet"`
}

// manifests are what the chart renders for one set of values, by kind and name.
type manifests map[string]manifest

func readRendered(t *testing.T, name string) manifests {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/helm/rendered", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(manifests)
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var m manifest
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Kind != "" {
			out[m.Kind+" "+m.Metadata.Name] = m
		}
	}
}

// object returns the object of a name, or the one whose name continues with a digest.
func (m manifests) object(t *testing.T, name string) manifest {
	t.Helper()
	for key, object := range m {
		if key == name || digest.MatchString(strings.TrimPrefix(key, name)) {
			return object
		}
	}
	t.Fatalf("the chart has no %s", name)
	return manifest{}
}

var digest = regexp.MustCompile("^-[0-9a-f]{8}$")

func (m manifests) container(t *testing.T, name string) container {
	t.Helper()
	object := m.object(t, name)
	containers := object.Spec.Template.Spec.Containers
	if object.Kind == "CronJob" {
		containers = object.Spec.JobTemplate.Spec.Template.Spec.Containers
	}
	if len(containers) != 1 {
		t.Fatalf("%s has %d containers", name, len(containers))
	}
	return containers[0]
}

// The chart was rendered as it is now. Helm itself, which renders it, is no part of this
// module: make chart checks its work.
func TestChartIsRendered(t *testing.T) {
	h := sha256.New()
	dir := filepath.Join(root, "deploy/helm/dkv")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(name), len(text), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/helm/rendered/*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if want := fmt.Sprintf("%x", h.Sum(nil)); err != nil || !strings.Contains(strings.SplitN(string(text), "\n", 2)[0], want) {
			t.Errorf("%s is of another chart (%v): run make chart", file, err)
		}
	}
}

// Each group keeps its names and its majority, and is asked whether it lives and serves.
func TestChartKeepsNodesApartAndAsksThem(t *testing.T) {
	for set, scheme := range map[string]string{"defaults": "HTTP", "secure": "HTTPS"} {
		m := readRendered(t, set)
		for _, group := range []string{"masters", "slaves", "registry"} {
			s := m["StatefulSet dkv-"+group].Spec
			if s.ServiceName != "dkv-"+group || s.PodManagementPolicy != "Parallel" || s.Replicas == 0 || s.MinReady < 5 || s.Template.Spec.Grace < 30 {
				t.Errorf("%s: %s: %+v", set, group, s)
			}
			if budget := m["PodDisruptionBudget dkv-"+group]; budget.Spec.MaxUnavailable != 1 {
				t.Errorf("%s: %s may lose %d", set, group, budget.Spec.MaxUnavailable)
			}
			c := m.container(t, "StatefulSet dkv-"+group)
			if c.Liveness.HTTPGet.Path != "/livez" || c.Startup.HTTPGet.Path != "/livez" || c.Readiness.HTTPGet.Path != "/readyz" || c.Readiness.HTTPGet.Scheme != scheme {
				t.Errorf("%s: %s is asked %+v, %+v, %+v", set, group, c.Startup, c.Liveness, c.Readiness)
			}
		}
	}
}

// Members that go are removed before their pods, be it by a rollback. New ones are added
// while Helm waits for their pods, which are not ready before, so that is no hook; each
// revision has a job of its own, as jobs cannot be changed.
func TestChartChangesMembersInTime(t *testing.T) {
	grown, secure := readRendered(t, "grown"), readRendered(t, "secure")
	if when := grown.object(t, "Job dkv-remove-members").Metadata.Annotations["helm.sh/hook"]; when != "pre-upgrade,pre-rollback" {
		t.Errorf("members are removed at %q", when)
	}
	added := grown.object(t, "Job dkv-add-members").Metadata
	if when := added.Annotations["helm.sh/hook"]; when != "" {
		t.Errorf("members are added at %q, which waits for what waits for it", when)
	}
	if added.Name == secure.object(t, "Job dkv-add-members").Metadata.Name {
		t.Errorf("two different jobs are called %s", added.Name)
	}
}

// An upgrade mends a set that never came up: if no node lists the members, it goes on unless
// there are pods that will go.
func TestChartUpgradesWhatIsDown(t *testing.T) {
	c := readRendered(t, "open").container(t, "Job dkv-remove-members")
	p := newPods(t, "dkv-masters-0", "dkv-masters-1", "dkv-masters-2")
	for known, want := range map[string]bool{
		"dkv": true, "dkv|dkv-masters-2.dkv-masters": true, "dkv|dkv-masters-3.dkv-masters": false, "none": false,
	} {
		p.know(t, known)
		if out, err := p.command(t, "", c, append(c.Command, c.Args...)...).CombinedOutput(); (err == nil) != want {
			t.Errorf("where %s is known: %v\n%s", known, err, out)
		}
	}
}

// A backup may take longer than a person would wait for it.
func TestChartBackupsHaveTime(t *testing.T) {
	for _, set := range []string{"open", "secure"} {
		c := readRendered(t, set).container(t, "CronJob dkv-backup")
		p := newPods(t, "dkv-masters-0")
		p.program(t, "dkvctl", `echo "$@"`)
		if out := p.run(t, "", c, append(c.Command, c.Args...)...); !strings.HasPrefix(out, "-timeout 6h -backup 20") {
			t.Errorf("%s: dkvctl %s", set, out)
		}
	}
}

// Only members that are pods of the set go with it: one elsewhere, as at an address or of another
// release, is not for the chart to remove.
func TestChartRemovesItsOwnPodsOnly(t *testing.T) {
	c := readRendered(t, "open").container(t, "Job dkv-remove-members")
	p := newPods(t, "dkv-masters-0", "dkv-masters-1", "dkv-masters-2")
	p.program(t, "dkvctl", `here=${0%/*}
case $1 in
-listNodes)
  for host in dkv-masters-0.dkv-masters dkv-masters-2.dkv-masters dkv-masters-3.dkv-masters 10.0.0.7 other-masters-5.other-masters db9.example; do
    grep -q "$host" "$here/removed" 2>/dev/null || echo "7  http://$host:8082  alive"
  done ;;
-removeNode) echo "$2" >>"$here/removed" ;;
esac`)
	p.run(t, "", c, append(c.Command, c.Args...)...)
	if gone, err := os.ReadFile(filepath.Join(p.path, "removed")); err != nil || string(gone) != "http://dkv-masters-3.dkv-masters:8082\n" {
		t.Errorf("removed are %q, %v", gone, err)
	}
}

// A pod that is started again has another address. It waits until its name is that of the
// new one: it could not listen at the former one.
func TestChartPodWaitsForItsOwnAddress(t *testing.T) {
	c := readRendered(t, "open").container(t, "StatefulSet dkv-masters")
	p := newPods(t, "dkv-masters-0")
	p.program(t, "getent", `echo >>"$0.asked"; case $(wc -l <"$0.asked") in 1) exit 2 ;; 2) echo "10.0.0.71 $2" ;; *) echo "10.0.0.7 $2" ;; esac`)
	p.program(t, "dkvsrv", `wc -l <"${0%/*}/getent.asked"`)
	cmd := p.command(t, "dkv-masters-0", c, append(c.Command, c.Args...)...)
	cmd.Env = append(cmd.Env, "POD_IP=10.0.0.7")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "3" {
		t.Errorf("it started with answer %q, %v", out, err)
	}
}

// What the pods and hooks of the chart run, run as processes of this host: a cluster of
// three masters gets a fourth and loses it again, hands over its leaders, and is backed up.
func TestChartCommands(t *testing.T) {
	small, grown := readRendered(t, "open"), readRendered(t, "grown")
	names := []string{"dkv-registry-0", "dkv-masters-0", "dkv-masters-1", "dkv-masters-2", "dkv-masters-3", "dkv-slaves-0"}
	p := newPods(t, names...)
	running := make(map[string]*process.Process)
	for _, name := range names {
		group := name[:strings.LastIndex(name, "-")]
		running[name] = p.start(t, name, grown.container(t, "StatefulSet "+group), grown["ConfigMap "+group].Data["dkvsrv.yaml"])
	}
	for name, node := range running {
		if name == "dkv-masters-3" {
			continue // it serves once it is added
		}
		if _, err := node.Await(); err != nil {
			t.Fatal(name, err)
		}
	}
	job := func(m manifests, name string) string {
		c := m.container(t, name)
		return p.run(t, "", c, append(c.Command, c.Args...)...)
	}
	dkvctl := func(args ...string) string {
		return p.run(t, "", small.container(t, "Job dkv-remove-members"), append([]string{"dkvctl"}, args...)...)
	}
	// Those with a vote.
	members := func() int {
		list := dkvctl("-listNodes")
		return strings.Count(list, ".dkv-masters:8082") - strings.Count(list, "no vote")
	}

	// An attempt that was interrupted has added the member, and not given it its vote.
	dkvctl("-addNode", "http://dkv-masters-3.dkv-masters:8082", "-nonVoting")
	job(grown, "Job dkv-add-members")
	job(grown, "Job dkv-add-members") // it may be repeated
	if _, err := running["dkv-masters-3"].Await(); err != nil || members() != 4 {
		t.Fatalf("%d members after the fourth was added, %v", members(), err)
	}
	put(t, p.addresses["dkv-masters-3"][0])
	mustRead(t, "the slave", p.addresses["dkv-slaves-0"][0])

	job(small, "CronJob dkv-backup")
	backups, err := filepath.Glob(filepath.Join(p.dir, "*/data/backups/*"))
	if err != nil || len(backups) != 1 {
		t.Errorf("backups: %q, %v", backups, err)
	}
	job(small, "Job dkv-remove-members")
	if n := members(); n != 3 {
		t.Errorf("%d members after the fourth was removed", n)
	}
	for _, name := range names[1:4] {
		c := small.container(t, "StatefulSet dkv-masters")
		p.run(t, name, c, c.Lifecycle.PreStop.Exec.Command...)
	}
	put(t, p.addresses["dkv-masters-0"][0])
}
