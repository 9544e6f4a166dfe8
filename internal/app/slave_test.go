package app

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestASlaveIsOnItsMastersList: it is listed as soon as it follows, leaves the list when it
// stops, and is listed again after a restart.
func TestASlaveIsOnItsMastersList(t *testing.T) {
	master := start(t, "--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://"+testkit.Address(t))
	slave := start(t, "--role", "slave", "--disable-discovery-client", "--repl-master-addr", master.grpc())
	slave.grpc()
	client := serverpb.NewDKVReplicationClient(connect(t, master.grpc()))
	wantListed := func(name string, want ...string) {
		t.Helper()
		testkit.Eventually(t, name, func() bool {
			resp, err := client.GetReplicas(testkit.Within(t, testkit.Patience), &serverpb.GetReplicasRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var listed []string
			for _, r := range resp.GetReplicas() {
				listed = append(listed, fmt.Sprintf("%s:%d", r.GetHostname(), r.GetPort()))
			}
			return fmt.Sprint(listed) == fmt.Sprint(want)
		})
	}
	wantListed("the slave is listed", slave.listen)
	slave.stop()
	wantListed("the slave has left the list")
	slave.begin()
	wantListed("the slave is listed again", slave.listen)
}
