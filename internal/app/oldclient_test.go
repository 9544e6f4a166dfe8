package app

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/dkvdb/dkv/internal/testkit"
)

// raw is a codec of messages that are encoded already.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                       { return "proto" }

// TestOldClientRegionStatus reads a node's row as the clients in the field do: by the numbers
// of its fields, without the generated messages of this repository.
func TestOldClientRegionStatus(t *testing.T) {
	node := start(t, "--db-engine", "badger", "--diskless", "--dc-id", "dc1", "--database", "db")
	req, resp := []byte{}, []byte{}
	err := connect(t, node.grpc()).Invoke(testkit.Within(t, testkit.Patience), "/dkv.serverpb.DKVDiscoveryNode/GetStatus", &req, &resp,
		grpc.ForceCodec(raw{}), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	text, status := map[protowire.Number]string{}, uint64(0)
	for len(resp) > 0 {
		num, typ, n := protowire.ConsumeTag(resp)
		if n < 0 {
			t.Fatalf("malformed message %x", resp)
		}
		resp = resp[n:]
		switch {
		case typ == protowire.BytesType:
			var value []byte
			value, n = protowire.ConsumeBytes(resp)
			text[num] = string(value)
		case typ == protowire.VarintType && num == 5:
			status, n = protowire.ConsumeVarint(resp)
		default:
			n = protowire.ConsumeFieldValue(num, typ, resp)
		}
		if n < 0 {
			t.Fatalf("malformed message %x", resp)
		}
		resp = resp[n:]
	}
	if text[1] != "dc1" || text[2] != node.listen || text[3] != "db" || text[4] != "default" || status != 1 || text[8] != node.ops {
		t.Errorf("status %d, %q", status, text)
	}
}
