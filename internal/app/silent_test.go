package app

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestSilentConnectionsDoNotHoldUpAPromotion: what connects to a slave and says nothing, or not
// all of a request, as a probe or a client that is gone, would otherwise keep it from being the
// master for up to ten seconds.
func TestSilentConnectionsDoNotHoldUpAPromotion(t *testing.T) {
	masters := mastersWith(t, 1, "--disable-discovery-client")
	slave := slaveOf(t, masters)
	if _, err := serverpb.NewDKVClient(connect(t, masters[0].listen)).Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the slave follows", func() bool {
		resp, err := serverpb.NewDKVClient(connect(t, slave.listen)).Get(testkit.Within(t, testkit.Patience), &serverpb.GetRequest{Key: []byte("k")})
		return err == nil && resp.GetFound()
	})
	for _, silent := range []struct{ to, said string }{
		{slave.listen, ""},
		{slave.ops, ""},
		{slave.ops, "POST /admin/backup HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"},
	} {
		c, err := net.Dial("tcp", silent.to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, silent.said); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if said, err := promoteNode(t, slave, new(serverpb.PromoteRequest)); err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	testkit.Eventually(t, "it is the master", func() bool {
		_, err := serverpb.NewDKVClient(connect(t, slave.listen)).Put(testkit.Within(t, testkit.Patience), &serverpb.PutRequest{Key: []byte("k"), Value: []byte("2")})
		return err == nil
	})
	if d := time.Since(begun); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
}
