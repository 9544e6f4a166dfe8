package app

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestRegistryShowsTheKnownDatabases: an identity whose grants are for some databases reads of no
// others over HTTP which nodes they have, as by gRPC.
func TestRegistryShowsTheKnownDatabases(t *testing.T) {
	s, args := secure(t, map[string]string{
		"slaves": `{role: replication}`, "some": `{role: read, databases: [orders]}`, "every": `{role: read}`,
	})
	p := start(t, append(args, "--role", "discovery")...)
	rows := serverpb.NewDKVDiscoveryClient(s.connect(t, p.grpc()))
	for database, node := range map[string]string{"orders": "192.0.2.1:1", "users": "192.0.2.2:1"} {
		row := &serverpb.RegionInfo{DcID: "dc", NodeAddress: node, Database: database, VBucket: "default", Status: serverpb.RegionStatus_ACTIVE_SLAVE, MasterHost: proto.String("192.0.2.9:1")}
		testkit.Eventually(t, "the registry accepts the row", func() bool {
			_, err := rows.UpdateStatus(s.as(t, "slaves"), &serverpb.UpdateStatusRequest{RegionInfo: row, Timestamp: uint64(time.Now().Unix())})
			return err == nil
		})
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool, ServerName: "localhost"}, DisableKeepAlives: true}}
	for _, c := range []struct {
		path, token   string
		others, whole bool
	}{
		{"/metrics/cluster", "some", false, false},
		{"/metrics/cluster", "every", true, true},
		{"/admin/nodes", "some", false, false},
		{"/admin/nodes", "every", true, false},
	} {
		req, err := http.NewRequest(http.MethodGet, "https://"+p.http()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.tokens[c.token])
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		text := string(body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(text, "192.0.2.1:1") {
			t.Errorf("%+v: %s, %v: %s", c, resp.Status, err, text)
		}
		if strings.Contains(text, "192.0.2.2:1") != c.others || strings.Contains(text, "dkv_cluster_vbuckets ") != c.whole {
			t.Errorf("%+v: %s", c, text)
		}
	}
}
