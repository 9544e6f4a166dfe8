package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/certs"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

var update = flag.Bool("update", false, "write docs/MISTAKES.md")

// mistake is a command line that is wrong, and the code that it ends with. In args NODE,
// HTTP, SLAVE and SECURE are addresses of nodes that run, and DIR is a folder.
type mistake struct {
	title string
	line  string
	code  int
	hint  string // of what is printed: what to do next
}

// group is the mistakes about one thing.
type group struct {
	title    string
	mistakes []mistake
}

var mistakes = []group{{"The wrong address", []mistake{
	{"Nothing listens there", "dkvctl -a NONE -get foo", 1, "is dkvsrv running there?"},
	{"The HTTP port in place of the gRPC port", "dkvctl -a HTTP -get foo", 1, "this is an HTTP port"},
	{"The Raft port in place of the gRPC port", "dkvctl -a RAFT -get foo", 1, "is it a node's Raft port"},
	{"An address without a port", "dkvctl -a localhost -get foo", 2, "is not host:port"},
	{"An IPv6 address without brackets", "dkvctl -a ::1:8080 -get foo", 2, "write [::1]:8080"},
	{"A URL in place of an address", "dkvctl -a http://NODE -get foo", 2, "is a URL: write host:port"},
}}, {"TLS and credentials", []mistake{
	{"TLS to a node that does not speak it", "dkvctl -a NODE -tls -get foo", 1, "leave out -tls"},
	{"No TLS to a node that requires it", "dkvctl -a SECURE -get foo", 1, "-caCert FILE"},
	{"An authority that has not issued the node's certificate", "dkvctl -a SECURE -caCert DIR/other/ca.pem -get foo", 1, "is it a node of this cluster?"},
	{"No credentials", "dkvctl -a SECURE -caCert DIR/certs/ca.pem -get foo", 1, "-tokenFile FILE"},
	{"A token of another cluster", "dkvctl -a SECURE -caCert DIR/certs/ca.pem -tokenFile DIR/other.token -get foo", 1, "meant for this cluster"},
	{"A role that may not", "dkvctl -a SECURE -caCert DIR/certs/ca.pem -tokenFile DIR/reader.token -set foo bar", 1, "write"},
	{"A token on its way in the clear", "dkvctl -a 192.0.2.1:8080 -tokenFile DIR/reader.token -get foo", 2, "use -tls or -caCert"},
	{"The key in place of the certificate", "dkvctl -a SECURE -caCert DIR/certs/ca.key -get foo", 1, "it holds no PEM certificate but a PRIVATE KEY"},
	{"A certificate that has expired", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new --tls-cert-file DIR/expired.pem --tls-key-file DIR/expired.key --tls-ca-file DIR/expired-ca.pem",
		1, "expired"},
	{"The certificate of a node that runs has expired", "dkvctl -a EXPIRED -caCert DIR/brief/ca.pem -get foo", 1, "dkvctl -certs rotate"},
}}, {"The wrong node", []mistake{
	{"A write at a slave", "dkvctl -a SLAVE -set foo bar", 1, "write to the leader at"},
	{"A member added at a node without a cluster", "dkvctl -a NODE -addNode http://HOST:9020", 1, "start masters with --role master"},
	{"A master's command at a slave", "dkvctl -a SLAVE -addNode http://HOST:9020", 1, "ask the leader"},
	{"A master that is to be promoted", "dkvctl -a NODE -promote", 1, "only a slave can be promoted"},
	{"The registry's question at a master", "dkvctl -a NODE -clusterInfo", 1, "ask a node of --role discovery"},
	{"A node that waits for its cluster", "dkvctl -a WAITS -set foo bar", 1, "it does not answer: is it started?"},
}}, {"The wrong data", []mistake{
	{"A key that is too long", "dkvctl -a NODE -set LONG bar", 1, "max-key-size"},
	{"An empty key", "dkvctl -a NODE -set EMPTY bar", 1, "key is empty"},
	{"A text that is counted", "dkvctl -a NODE -incr word", 1, "count under another key"},
	{"A time to live that is negative", "dkvctl -a NODE -set foo bar -ttl -5", 2, "must be more than 0"},
	{"Keys without all their values", "dkvctl -a NODE -mset a 1 b", 2, "has no value"},
	{"A backup outside of backup-dir", "dkvctl -a NODE -backup /etc/backup", 1, "give a path relative to it"},
	{"A backup that is not there", "dkvctl -a NODE -restore nightly", 1, "there is no backup at"},
	{"The clock of the log set to another year", "dkvctl -a NODE -resetClock 1990-01-01T00:00:00Z", 1, "set the machines' clocks right first"},
	{"A misspelt option", "dkvctl -a NODE -get foo -levl seq", 2, "did you mean -level?"},
}}, {"The wrong configuration", []mistake{
	{"A misspelt key in the file", "dkvsrv --config DIR/typo.yaml", 2, "did you mean db-engine?"},
	{"A tab in the file", "dkvsrv --config DIR/tab.yaml", 1, "indent with spaces"},
	{"An unknown role", "dkvsrv --role primary", 1, "write one of none, master, slave, discovery"},
	{"A duration that is none", "dkvsrv --repl-poll-interval soon", 1, "write seconds such as 5"},
	{"One port for gRPC and HTTP", "dkvsrv --listen-addr 127.0.0.1:8080 --http-listen-addr 127.0.0.1:8080", 1, "give the two different ports"},
	{"An IPv6 address of the server without brackets", "dkvsrv --listen-addr ::1:8080", 1, "[::1]:8080"},
	{"A master on Badger", "dkvsrv --role master --db-engine badger", 1, "use --db-engine rocksdb"},
	{"A slave that cannot find its master", "dkvsrv --role slave --disable-discovery-client --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new", 1, "set --repl-master-addr"},
	{"A cluster url without this node", "dkvsrv --role master --log-level error --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new --nexus-node-url http://127.0.0.1:9 --nexus-cluster-url http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3",
		1, "add it there on all nodes"},
	{"Tokens without TLS", "dkvsrv --listen-addr 0.0.0.0:0 --auth-file DIR/auth.yaml --db-folder DIR/new", 1, "tokens would cross the network in the clear"},
}}, {"The wrong folder, port or disk", []mistake{
	{"A port that is in use", "dkvsrv --listen-addr NODE --http-listen-addr 127.0.0.1:0 --db-folder DIR/new", 1, "stop it or choose another port"},
	{"An HTTP port that is in use", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr HTTP --db-folder DIR/new", 1, "set another port"},
	{"A Raft port that is in use", "dkvsrv --role master --disable-discovery-client --log-level error --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new --nexus-node-url http://RAFT --nexus-cluster-url http://RAFT",
		1, "choose another port in nexus-node-url"},
	{"A folder that is in use", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/node/db", 1, "stop the other dkvsrv"},
	{"An address of another machine", "dkvsrv --listen-addr 192.0.2.1:8080 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new", 1, "0.0.0.0 for all"},
	{"A file in place of a folder", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/typo.yaml", 1, "choose"},
	{"A folder of another database", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/old/db --database users", 1, `holds database "default"`},
	{"A folder of another engine", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/old/db --db-engine badger", 1, "holds a rocksdb database"},
	{"A disk that is too full", "dkvsrv --listen-addr 127.0.0.1:0 --http-listen-addr 127.0.0.1:0 --db-folder DIR/new --disk-reserve 1000TiB", 1, "lower it"},
}}}

// scene is what the mistakes are made in.
type scene struct {
	dir   string
	names map[string]string // by the mark that stands for it
	// kept is the page as it is; empty if it is written again.
	kept string
}

// looked runs a line until it prints what it should, adds that to the page, and returns it. On a
// busy machine a connection may end before the reason arrives, and a node takes its time to notice
// what has changed.
func (s *scene) looked(t *testing.T, page *strings.Builder, m mistake, run func() (code int, text string)) (text string) {
	t.Helper()
	var code int
	var shown string
	right := func() bool { return code == m.code && strings.Contains(text, m.hint) }
	known := func() bool { return s.kept == "" || strings.Contains(s.kept, shown) }
	testkit.Soon(func() bool {
		code, text = run()
		shown = fmt.Sprintf("\n%s (exit code %d):\n\n```\n$ %s\n%s```\n", m.title, code, typed(m.line), s.show(text))
		return right() && known()
	})
	if !right() {
		t.Errorf("%s: exit code %d, want %d; want %q in\n%s", m.title, code, m.code, m.hint, text)
	} else if !known() {
		t.Errorf("the page does not show this; make reference writes it again:%s", shown)
		s.kept = "" // one is enough: each is waited for
	}
	page.WriteString(shown)
	return text
}

// TestMistakes makes each of the likeliest mistakes, and holds that what is printed says what
// to do, in one line. docs/MISTAKES.md shows all of it.
func TestMistakes(t *testing.T) {
	s := newScene(t)
	if !*update {
		raw, err := os.ReadFile(mistakesPage)
		if err != nil {
			t.Fatal(err)
		}
		s.kept = string(raw)
	}
	var page strings.Builder
	page.WriteString(mistakesIntro)
	for _, g := range mistakes {
		fmt.Fprintf(&page, "\n## %s\n", g.title)
		for _, m := range g.mistakes {
			said := s.looked(t, &page, m, func() (int, string) { return s.run(t, m.line) })
			if strings.Count(strings.TrimSpace(said), "\n") > 0 {
				t.Errorf("%s: %q is more than one line", m.title, said)
			}
		}
	}
	full := keptSection(t, onFullDisk.title) // if this host cannot fill a disk
	t.Run("a full disk", func(t *testing.T) { full = s.fullDisk(t) })
	page.WriteString(full)
	if !t.Failed() {
		testkit.Page(t, mistakesPage, page.String(), *update)
	}
}

// mistakesPage is the page.
var mistakesPage = filepath.Join("..", "..", "docs", "MISTAKES.md")

const mistakesIntro = "# The likeliest mistakes\n\n" +
	"What `dkvctl` and `dkvsrv` print when something is mistyped or forgotten: what failed, why, and what to do. The page is made from their real output\n" +
	"by `make reference`, and a test holds it against them. What a running cluster lacks is for `dkvctl -doctor` to say.\n"

func newScene(t *testing.T) *scene {
	dir := t.TempDir()
	s := &scene{dir: dir}
	s.prepare(t)
	node := s.node(t, "node")
	slave := s.node(t, "slave", "--role", "slave", "--disable-discovery-client", "--repl-master-addr", node.grpc)
	certs := filepath.Join(dir, "certs")
	secure := s.node(t, "secure", "--tls-mode", "required", "--tls-ca-file", filepath.Join(certs, "ca.pem"),
		"--tls-cert-file", filepath.Join(certs, "node-localhost.pem"), "--tls-key-file", filepath.Join(certs, "node-localhost.key"), "--auth-file", filepath.Join(dir, "auth.yaml"))
	s.names = map[string]string{"NODE": node.grpc, "HTTP": node.http, "SLAVE": slave.grpc, "SECURE": secure.grpc, "NONE": testkit.Refusing(t),
		"DIR": dir, "LONG": strings.Repeat("k", 2000), "HOST": "10.0.0.9", "EMPTY": ""}
	if code, said := s.run(t, "dkvctl -a NODE -set word hello"); code != 0 {
		t.Fatal(said)
	}
	s.waiting(t)
	s.expiring(t)
	return s
}

// node starts a node in a folder of that name.
func (s *scene) node(t *testing.T, name string, args ...string) *fixture {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return newFixture(t, dir, args...)
}

// expiring starts a node with a certificate that expires while it runs. The time that a start
// takes is not known, so each attempt gives it a longer one.
func (s *scene) expiring(t *testing.T) {
	path, err := exec.LookPath("dkvsrv")
	if err != nil {
		t.Fatal(err)
	}
	authority := certs.New(t)
	ca := filepath.Join(s.dir, "brief", "ca.pem")
	if err := errors.Join(os.Mkdir(filepath.Dir(ca), 0o755), os.Link(authority.File, ca)); err != nil {
		t.Fatal(err)
	}
	address := testkit.Address(t)
	s.names["EXPIRED"] = address
	for lasts := 4 * time.Second; ; lasts *= 2 {
		until := time.Now().Add(lasts)
		cert := authority.Sign(t, certs.Request{Hosts: []string{"127.0.0.1", "dkv-node"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until})
		n, err := launch(path, filepath.Join(s.dir, "brief", "log"), s.dir, process.Environ(), []string{"--listen-addr", address, "--http-listen-addr", "127.0.0.1:0",
			"--db-folder", filepath.Join(s.dir, "brief", "db"), "--tls-mode", "required", "--tls-ca-file", ca, "--tls-cert-file", cert.CertFile, "--tls-key-file", cert.KeyFile})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Await(); err == nil {
			t.Cleanup(n.Kill)
			return
		}
		n.Kill()
		if lasts > time.Minute {
			t.Fatalf("no start has taken less than a minute: %s", n.Tail(5))
		}
	}
}

// waiting starts a master whose cluster does not come.
func (s *scene) waiting(t *testing.T) {
	path, err := exec.LookPath("dkvsrv")
	if err != nil {
		t.Fatal(err)
	}
	grpcAddr, raftAddr := testkit.Address(t), testkit.Address(t)
	s.names["WAITS"], s.names["RAFT"] = grpcAddr, raftAddr
	n, err := launch(path, filepath.Join(s.dir, "waits.log"), s.dir, process.Environ(), []string{"--role", "master", "--disable-discovery-client",
		"--listen-addr", grpcAddr, "--http-listen-addr", "127.0.0.1:0", "--db-folder", filepath.Join(s.dir, "waits"), "--nexus-node-url", "http://" + raftAddr,
		"--nexus-cluster-url", "http://" + raftAddr + ",http://127.0.0.1:1,http://127.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	testkit.Eventually(t, "its Raft port is open", func() bool {
		c, err := net.Dial("tcp", raftAddr)
		return err == nil && c.Close() == nil
	})
}

// prepare writes the files that mistakes are made with.
func (s *scene) prepare(t *testing.T) {
	for name, text := range map[string]string{"typo.yaml": "db-engin: rocksdb\n", "tab.yaml": "discovery-service:\n\tclient:\n"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"-certs init -dir DIR/certs", "-certs init -dir DIR/other", "-certs node localhost -dir DIR/certs",
		"-token new reader -role read -authFile DIR/auth.yaml -tokenFile DIR/reader.token",
		"-token new reader -role read -authFile DIR/other.yaml -tokenFile DIR/other.token"} {
		s.names = map[string]string{"DIR": s.dir}
		if code, said := s.run(t, "dkvctl "+line); code != 0 {
			t.Fatalf("dkvctl %s: %d, %s", line, code, said)
		}
	}
	authority := certs.New(t)
	expired := authority.Sign(t, certs.Request{Hosts: []string{"localhost"}, NotBefore: time.Now().AddDate(0, -2, 0), NotAfter: time.Now().AddDate(0, -1, 0)})
	for name, from := range map[string]string{"expired.pem": expired.CertFile, "expired.key": expired.KeyFile, "expired-ca.pem": authority.File} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := s.node(t, "old")
	old.kill()
}

// run runs a command line, with what its words stand for, and returns what it says on stderr.
func (s *scene) run(t *testing.T, line string) (code int, said string) {
	t.Helper()
	code, _, said = s.output(t, line)
	return code, said
}

// output is run that also returns what the command prints.
func (s *scene) output(t *testing.T, line string) (code int, printed, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	words := strings.Fields(line)
	for i, w := range words {
		words[i] = s.replaced(w)
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, words[1:]...)
	cmd.Dir, cmd.Env = s.dir, process.Environ()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s: %v, %v", line, err, ctx.Err())
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// marks are the words of a line that stand for something.
var marks = regexp.MustCompile(`\b(NODE|HTTP|SLAVE|SECURE|EXPIRED|WAITS|RAFT|NONE|FULL|HOST|LONG|EMPTY|DIR)\b`)

func (s *scene) replaced(word string) string {
	return marks.ReplaceAllStringFunc(word, func(m string) string { return s.names[m] })
}

// standIn is what stands in the page for a mark.
var standIn = map[string]string{"NODE": "10.0.0.1:8080", "HTTP": "10.0.0.1:8081", "SLAVE": "10.0.0.2:8080", "SECURE": "10.0.0.3:8080", "EXPIRED": "10.0.0.6:8080", "WAITS": "10.0.0.4:8080",
	"RAFT": "10.0.0.4:9020", "NONE": "10.0.0.5:8080", "FULL": "10.0.0.7:8080", "DISK": "/var/lib/dkv", "HOST": "10.0.0.9", "LONG": "kkk...", "EMPTY": "''", "DIR": "/var/lib/dkv"}

// typed is a line as the page has it.
func typed(line string) string {
	return marks.ReplaceAllStringFunc(line, func(m string) string { return standIn[m] })
}

// changing is what differs between two runs, and what stands in its place.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`127\.[0-9.]+:[0-9]+->`), "10.0.0.7:40000->"},
	{regexp.MustCompile(`: [^;]*; does it require TLS`), ": the connection is draining; does it require TLS"},
	{regexp.MustCompile(`file system of [0-9]+ MiB`), "file system of 100000 MiB"},
	{regexp.MustCompile(`[0-9.]+ [a-zA-Z]+ of 128\.0 MiB are free`), "0 bytes of 128.0 MiB are free"},
	{regexp.MustCompile(`(?m)  [0-9]{2}:[0-9]{2}:[0-9]{2}$`), "  12:00:00"},
	{regexp.MustCompile(`20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9:]{5,8}(\.[0-9]+)?( UTC|Z|[+-][0-9]{2}:[0-9]{2})?`), "2026-01-01T00:00:00Z"},
}

// show is a text as the page has it.
func (s *scene) show(text string) string {
	for _, mark := range []string{"LONG", "DIR", "DISK", "NODE", "HTTP", "SLAVE", "SECURE", "EXPIRED", "WAITS", "RAFT", "NONE", "FULL"} {
		if s.names[mark] == "" {
			continue
		}
		text = strings.ReplaceAll(text, s.names[mark], standIn[mark])
	}
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.by)
	}
	return text
}
