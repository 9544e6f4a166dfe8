package console

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// node is a dkvsrv that can be killed and started again.
type node struct {
	t          *testing.T
	name, http string
	options    process.Options
	*process.Process
}

// launch starts a node without waiting for it.
func launch(t *testing.T, dir, name string, args ...string) *node {
	t.Helper()
	addresses, err := testkit.Addresses(2)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, name: name, http: addresses[1], options: process.Options{
		Program: dkvsrv, Dir: dir, Log: filepath.Join(dir, name+".log"), Env: process.Environ(),
		Args: append([]string{"--node-name", name, "--db-folder", filepath.Join(dir, name), "--backup-dir", filepath.Join(dir, "backups"),
			"--listen-addr", addresses[0], "--http-listen-addr", addresses[1]}, args...),
	}}
	n.start()
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("%s: %s", name, n.Tail(15))
		}
	})
	return n
}

func (n *node) start() {
	n.t.Helper()
	var err error
	if n.Process, err = process.Start(n.options); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) await() {
	n.t.Helper()
	if _, err := n.Await(); err != nil {
		n.t.Fatal(err)
	}
}

// cluster is three masters in three zones, a slave, and the registry.
type cluster struct {
	masters []*node
	slave   *node
	// urls are the Raft addresses of the masters, and common the flags of all nodes.
	urls   string
	common []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	registry := launch(t, dir, "discovery1", "--role", "discovery")
	at, err := registry.Await()
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for range 3 {
		urls = append(urls, "http://"+testkit.Address(t))
	}
	common := []string{"--vbuckets", "4", "--discovery-service.client.discovery-service-addr", at.GRPC}
	c := &cluster{urls: strings.Join(urls, ","), common: common}
	for i, url := range urls {
		c.masters = append(c.masters, launch(t, dir, fmt.Sprint("master", i+1), append([]string{"--role", "master", "--dc-id", fmt.Sprint("zone-", i+1),
			"--nexus-node-url", url, "--nexus-cluster-url", c.urls}, common...)...))
	}
	c.slave = launch(t, dir, "slave1", append([]string{"--role", "slave", "--dc-id", "zone-2", "--repl-mode", "stream"}, common...)...)
	for _, n := range append(c.masters, c.slave) {
		n.await()
	}
	return c
}

// secured is a node with identities: a reader and an administrator, by their tokens.
func secured(t *testing.T) (n *node, reader, admin string) {
	t.Helper()
	dir := t.TempDir()
	reader, admin = token.New(), token.New()
	var file strings.Builder
	file.WriteString("identities:\n")
	for _, id := range []struct{ name, token string }{{"reader", reader}, {"admin", admin}} {
		hash, err := token.Hash(id.token)
		if err != nil {
			t.Fatal(err)
		}
		role := map[string]string{"reader": "read", "admin": "admin"}[id.name]
		fmt.Fprintf(&file, "  - {name: %s, tokens: [%q], grants: [{role: %s}]}\n", id.name, hash, role)
	}
	path := filepath.Join(dir, "auth.yaml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n = launch(t, dir, "alone", "--auth-file", path)
	n.await()
	return n, reader, admin
}

func base64of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// put puts a pair by the paths that the page uses.
func put(t *testing.T, at *node, key, value string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"key": key, "value": value})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Timely(t, func() error {
		answer, err := http.Post("http://"+at.http+"/data/put", "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusOK {
			return fmt.Errorf("put %q: %s", key, text)
		}
		return nil
	})
}
