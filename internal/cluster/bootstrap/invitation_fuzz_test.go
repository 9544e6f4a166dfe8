package bootstrap

import (
	"context"
	"os"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
)

// FuzzInvitation sends a waiting node any message as an invitation. What it accepts, it must
// find again after a restart.
func FuzzInvitation(f *testing.F) {
	self := memberOf()
	node := func(dir string, state peerpb.HelloResponse_State) *invitee {
		return &invitee{
			self: record{UUID: self.UUID, URL: self.URL}, state: state, peers: self.urls(),
			terms:   Terms{ClusterName: self.ClusterName, Database: self.Database, VBuckets: self.VBuckets},
			file:    file{dir, func(path string, content []byte) error { return os.WriteFile(path, content, 0o600) }},
			decided: make(chan struct{}),
		}
	}
	members := make(map[uint64]string)
	for _, m := range self.Members {
		members[m.Replica] = m.URL
	}
	seed := func(change func(*peerpb.Invitation)) {
		inv := &peerpb.Invitation{
			Protocol: protocol, Uuid: self.UUID, Url: self.URL, ClusterName: self.ClusterName, Database: self.Database,
			VBuckets: uint32(self.VBuckets), Deployment: 7, Replica: self.Replica, Members: members,
		}
		change(inv)
		raw, err := proto.Marshal(inv)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, inv.GetJoin())
	}
	seed(func(*peerpb.Invitation) {})
	seed(func(inv *peerpb.Invitation) { inv.Join, inv.Members = true, nil })
	seed(func(inv *peerpb.Invitation) { inv.Replica = 1 << 63 })
	seed(func(inv *peerpb.Invitation) { inv.Addresses = map[uint64]string{1: "\x00"} })
	seed(func(inv *peerpb.Invitation) { inv.Timings = []string{"lan", "?"} })
	f.Fuzz(func(t *testing.T, raw []byte, joining bool) {
		var inv peerpb.Invitation
		if proto.Unmarshal(raw, &inv) != nil {
			return // gRPC rejects it before the service sees it
		}
		state := peerpb.HelloResponse_FORMING
		if joining {
			state = peerpb.HelloResponse_JOINING
		}
		i := node(t.TempDir(), state)
		if _, err := i.Invite(context.Background(), &inv); err != nil {
			if i.accepted != nil {
				t.Errorf("rejected and accepted: %v", err)
			}
			return
		}
		rec, ok, err := i.file.load()
		if err != nil || !ok || !reflect.DeepEqual(rec.Members, i.accepted.Members) || rec.Replica != i.accepted.Replica {
			t.Errorf("accepted %+v, and found %+v, %v, %v", i.accepted, rec, ok, err)
		}
	})
}
