package app

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestFolderThatWasMovedAway: a node acknowledges nothing that the next start would not find, and says
// so. Once the folder is back it goes on.
func TestFolderThatWasMovedAway(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"--role", "master", "--disable-discovery-client", "--nexus-node-url", "http://" + testkit.Address(t)},
	} {
		p := start(t, args...)
		client := serverpb.NewDKVClient(connect(t, p.grpc()))
		put := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			_, err := client.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
			return err
		}
		testkit.Eventually(t, "it accepts writes", func() bool { return put() == nil })
		if err := os.Rename(p.folder, p.folder+".away"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "writes are rejected", func() bool {
			err := put()
			return status.Code(err) == codes.FailedPrecondition && strings.Contains(err.Error(), "moved or removed")
		})
		var health ops.Health
		if err := json.Unmarshal([]byte(get(t, "http://"+p.http()+"/health")), &health); err != nil || health.Status != ops.Degraded || !strings.Contains(strings.Join(health.Reasons, "; "), "moved or removed") {
			t.Errorf("%v, %v, %v", health.Status, health.Reasons, err)
		}
		if err := os.Rename(p.folder+".away", p.folder); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "it accepts writes again", func() bool { return put() == nil })
		if code := p.stop(); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
}
