package admin

import (
	"cmp"
	"context"
	"log/slog"
	"strconv"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/certs/dial"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/ops/nodes"
)

// neighbours returns what asks the other nodes. It shows them no certificate of this node:
// each decides by the credentials of the caller.
func (a *Admin) neighbours(log *slog.Logger, store *certs.Store) *nodes.Service {
	dialer := dial.New(dial.Options{Store: store, Protocols: []string{"http/1.1"}, Anonymous: true, Log: log})
	return nodes.New(nodes.Options{List: a.known, Cluster: func() string { return a.Node.Info.Cluster }, Dial: dialer.Dial})
}

// asksRegistry is a role that has the registry's rows itself.
type asksRegistry interface {
	Rows(ctx context.Context) []*serverpb.RegionInfo
}

// known lists the nodes that this one knows: itself, the members of its cluster, those that the
// registry says, and the registry's own. Nothing is asked.
func (a *Admin) known(ctx context.Context) []nodes.Node {
	info := &a.Node.Info
	out := []nodes.Node{{
		Name: info.Name, Role: info.Role, Database: info.Database, Zone: info.DC, Address: info.Address, HTTP: info.HTTPAddress,
		Voting: true, Self: true,
	}}
	if a.starting() != nil {
		return out
	}
	out[0].ID, out[0].URL, out[0].Voting = info.ID, raftURL(a.Role.RaftAddress()), info.Role != string(config.RoleSlave)
	listed := map[string]bool{info.Address: true}
	for _, p := range a.Role.Cluster().Peers() {
		listed[p.GRPC] = true
		name := p.Node
		if name == "" {
			name = "member " + p.Name()
		}
		out = append(out, nodes.Node{
			Name: name, ID: p.Name(), Role: info.Role, Database: info.Database, Zone: p.DC, Address: p.GRPC, HTTP: p.HTTP, URL: p.URL(), Voting: p.Voting,
		})
	}
	for _, row := range a.registered(ctx) {
		if !listed[row.GetNodeAddress()] {
			listed[row.GetNodeAddress()] = true
			out = append(out, ofRow(row))
		}
	}
	for _, n := range a.Registry() {
		if !listed[n.GetAddress()] {
			out = append(out, ofRegistry(n))
		}
	}
	return out
}

// ofRegistry is a node of the registry.
func ofRegistry(n *modelspb.NodeInfo) nodes.Node {
	id := strconv.FormatUint(n.GetNodeId(), 10)
	return nodes.Node{
		Name: cmp.Or(n.GetNodeName(), "registry "+id), ID: id, Role: string(config.RoleDiscovery), Zone: n.GetDcID(),
		Address: n.GetAddress(), HTTP: n.GetHttpAddress(), Voting: !n.GetNonVoting(),
	}
}

// registered are the rows of nodes.
func (a *Admin) registered(ctx context.Context) []*serverpb.RegionInfo {
	if r, is := a.Role.(asksRegistry); is {
		return r.Rows(ctx)
	}
	return a.Rows()
}

func ofRow(row *serverpb.RegionInfo) nodes.Node {
	n := nodes.Node{
		Name: row.GetNodeName(), ID: row.GetNodeID(), Role: string(config.RoleMaster), Database: row.GetDatabase(), Zone: row.GetDcID(),
		Address: row.GetNodeAddress(), HTTP: row.GetHttpAddress(), Voting: true,
	}
	if s := row.GetStatus(); s == serverpb.RegionStatus_ACTIVE_SLAVE || s == serverpb.RegionStatus_INACTIVE && row.GetNexusClusterUrl() == "" {
		n.Role, n.Voting = string(config.RoleSlave), false
	}
	return n
}

func raftURL(address string) string {
	if address == "" {
		return ""
	}
	return "http://" + address
}
