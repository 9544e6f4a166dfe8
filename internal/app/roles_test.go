package app

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestEachRoleSaysWhoServesWhatItDoesNot: a call that belongs to another role gets a
// typed error that says which, over gRPC and over HTTP.
func TestEachRoleSaysWhoServesWhatItDoesNot(t *testing.T) {
	master := start(t, "--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://"+testkit.Address(t))
	standalone := start(t)
	slave := start(t, "--role", "slave", "--disable-discovery-client", "--repl-master-addr", master.grpc())
	registry := start(t, "--role", "discovery")
	testkit.Eventually(t, "the slave knows the leader", func() bool { return healthOf(t, slave.http()).VBuckets[0].Leader == master.grpc() })
	clusterInfo := func(p *process) error {
		_, err := serverpb.NewDKVDiscoveryClient(connect(t, p.grpc())).GetClusterInfo(testkit.Within(t, testkit.Patience), &serverpb.GetClusterInfoRequest{})
		return err
	}
	addNode := func(p *process) error {
		_, err := serverpb.NewDKVClusterClient(connect(t, p.grpc())).AddNode(testkit.Within(t, testkit.Patience), &serverpb.AddNodeRequest{NodeUrl: "http://127.0.0.1:1"})
		return err
	}
	backup := func(p *process) error {
		_, err := serverpb.NewDKVBackupRestoreClient(connect(t, p.grpc())).Backup(testkit.Within(t, testkit.Patience), &serverpb.BackupRequest{BackupPath: "b1"})
		return err
	}
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
		want string
	}{
		{"clusterInfo of a standalone node", clusterInfo(standalone), codes.Unimplemented, "GetClusterInfo: this node is standalone and keeps no registry; ask a node of --role discovery (not applied)"},
		{"clusterInfo of a slave", clusterInfo(slave), codes.Unimplemented, "this node is a slave and keeps no registry"},
		{"clusterInfo of a master", clusterInfo(master), codes.Unimplemented, "this node is a master and keeps no registry"},
		{"backup of a registry", backup(registry), codes.Unimplemented, "Backup: this node is a node of the registry and keeps no keys; ask a master or a slave"},
		{"addNode of a standalone node", addNode(standalone), codes.FailedPrecondition, "this node is standalone and has no cluster to change"},
		{"addNode of a slave", addNode(slave), codes.FailedPrecondition, "this node is a slave and changes no cluster; ask the leader at " + master.grpc()},
		{"addNode of a registry of one", addNode(registry), codes.FailedPrecondition, "this node is a registry of one and has no cluster to change"},
	} {
		st := status.Convert(c.err)
		if st.Code() != c.code || !strings.Contains(st.Message(), c.want) {
			t.Errorf("%s: %v; want %v, %q", c.name, c.err, c.code, c.want)
		}
		if c.code != codes.Unimplemented {
			continue
		}
		if d := st.Details(); len(d) != 1 || d[0].(*errdetails.ErrorInfo).GetReason() != kv.ReasonNotApplied {
			t.Errorf("%s: the details are %v", c.name, d)
		}
	}
	bodies := map[string]string{"/admin/cluster/add": `{"node_url": "http://127.0.0.1:1"}`, "/admin/backup": `{"path": "b1"}`}
	for _, c := range []struct {
		name   string
		p      *process
		method string
		path   string
		code   int
		want   string
	}{
		{"add to a standalone node", standalone, "POST", "/admin/cluster/add", 409, "standalone and has no cluster to change"},
		{"step down of a slave", slave, "POST", "/admin/raft/step-down", 409, "is a slave and changes no cluster"},
		{"backup of a registry", registry, "POST", "/admin/backup", 501, "a node of the registry and keeps no keys"},
		{"log of a standalone node", standalone, "GET", "/admin/raft/state", 200, `"mode": "local"`},
		{"log of a slave", slave, "GET", "/admin/raft/state", 200, `"mode": "stream"`},
		{"log of the registry", registry, "GET", "/admin/raft/state", 200, `"commit_index"`},
		{"lag of the registry", registry, "GET", "/admin/replication/lag", 200, `"lag_seconds"`},
		{"all nodes of a slave", slave, "GET", "/metrics/cluster", 501, "is a slave and does not know the nodes of all databases; ask a discovery node"},
		{"copy of a standalone node", standalone, "POST", "/admin/resync", 501, "is standalone and keeps no copy of a master's data; ask a slave"},
		{"lag of a slave", slave, "GET", "/admin/replication/lag", 200, "applied_index"},
	} {
		req, err := http.NewRequest(c.method, "http://"+c.p.http()+c.path, strings.NewReader(bodies[c.path]))
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || !strings.Contains(string(body), c.want) {
			t.Errorf("%s: %s, %s, %v; want %d, %q", c.name, resp.Status, body, err, c.code, c.want)
		}
	}
}
