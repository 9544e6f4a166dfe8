package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/certs/nodeport"
)

// drainTimeout is how long answers may take to be sent before connections are cut.
const drainTimeout = 500 * time.Millisecond

// invitee is the service that a waiting node offers on its Raft port. It is invited or
// rejected once.
type invitee struct {
	peerpb.UnimplementedBootstrapServer
	self    record
	address string
	terms   Terms
	peers   []string
	state   peerpb.HelloResponse_State
	founder bool
	file    file
	// wall is the machine's time.
	wall func() time.Time

	mu       sync.Mutex
	accepted *record
	rejected error
	closed   bool
	// decided is closed when accepted or rejected is set.
	decided chan struct{}
}

// Hello implements the service.
func (i *invitee) Hello(context.Context, *peerpb.HelloRequest) (*peerpb.HelloResponse, error) {
	return &peerpb.HelloResponse{
		Protocol: protocol, Uuid: i.self.UUID, Url: i.self.URL, ClusterName: i.terms.ClusterName, Database: i.terms.Database,
		VBuckets: uint32(i.terms.VBuckets), Version: i.terms.Version, Urls: i.peers, State: i.state, Address: i.address,
		Format: i.terms.Format, WallMicros: i.wall().UnixMicro(), Timing: i.terms.Timing.Current.Text(), VBucket: i.terms.VBucket,
	}, nil
}

// Invite implements the service.
func (i *invitee) Invite(_ context.Context, inv *peerpb.Invitation) (*peerpb.InviteResponse, error) {
	if err := i.check(inv); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	rec := record{
		UUID: i.self.UUID, URL: i.self.URL, ClusterName: i.terms.ClusterName, Database: i.terms.Database, VBuckets: i.terms.VBuckets,
		Deployment: inv.GetDeployment(), Replica: inv.GetReplica(), Join: inv.GetJoin(), NonVoting: inv.GetNonVoting(), LogFormat: inv.GetFormat(),
		Members: memberRecords(inv.GetMembers()),
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.accepted != nil && i.accepted.same(&rec):
		return &peerpb.InviteResponse{}, nil
	case i.accepted != nil:
		return nil, status.Errorf(codes.FailedPrecondition, "it has accepted already to be replica %d of deployment %d",
			i.accepted.Replica, i.accepted.Deployment)
	case i.closed || i.rejected != nil:
		return nil, status.Error(codes.FailedPrecondition, "it is stopping")
	}
	err := i.file.storeNotes(notes{Addresses: inv.GetAddresses()})
	if err == nil {
		err = i.file.store(rec)
	}
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "its identity cannot be written: %v", err)
	}
	i.accepted = &rec
	close(i.decided)
	return &peerpb.InviteResponse{}, nil
}

// check returns why an invitation cannot be for this node.
func (i *invitee) check(inv *peerpb.Invitation) error {
	cluster := Terms{
		ClusterName: inv.GetClusterName(), Database: inv.GetDatabase(), VBuckets: int(inv.GetVBuckets()), Version: inv.GetVersion(),
		Format: inv.GetFormat(), Timing: settingOf(inv.GetTimings()), VBucket: inv.GetVBucket(),
	}
	switch {
	case inv.GetProtocol() != protocol:
		return fmt.Errorf("it speaks bootstrap protocol %d, not %d", protocol, inv.GetProtocol())
	case inv.GetUuid() != i.self.UUID:
		return fmt.Errorf("its disk is %s, and the invitation is for %s", i.self.UUID, inv.GetUuid())
	case inv.GetUrl() != i.self.URL:
		return fmt.Errorf("it is %s, and the invitation is for %s", i.self.URL, inv.GetUrl())
	case inv.GetDeployment() == 0 || inv.GetReplica() == 0:
		return errors.New("the invitation has no deployment or replica number")
	case i.founder:
		return errors.New("it is the founder of its list, and invites itself")
	case inv.GetJoin() != (i.state == peerpb.HelloResponse_JOINING):
		if inv.GetJoin() {
			return errors.New("it waits to form a cluster: start it with --nexus-join to add it to one")
		}
		return errors.New("it was started with --nexus-join: add it with dkvctl -addNode, or start it without")
	case inv.GetJoin() && len(inv.GetMembers()) != 0:
		return errors.New("an invitation to join has a list of first members")
	case !inv.GetJoin() && inv.GetMembers()[inv.GetReplica()] != i.self.URL:
		return fmt.Errorf("replica %d of the invitation is not %s", inv.GetReplica(), i.self.URL)
	case !inv.GetJoin() && !slices.Equal(slices.Sorted(maps.Values(inv.GetMembers())), i.peers):
		return fmt.Errorf("its nexus-cluster-url is %s, not %s", listed(i.peers), listed(slices.Sorted(maps.Values(inv.GetMembers()))))
	}
	return i.terms.fits(i.self.URL, cluster)
}

// same reports whether two records come from the same invitation.
func (r *record) same(o *record) bool {
	return r.UUID == o.UUID && r.Deployment == o.Deployment && r.Replica == o.Replica && r.Join == o.Join &&
		r.NonVoting == o.NonVoting && slices.Equal(r.Members, o.Members)
}

// Reject implements the service.
func (i *invitee) Reject(_ context.Context, r *peerpb.Rejection) (*peerpb.RejectResponse, error) {
	if r.GetUuid() != i.self.UUID {
		return nil, status.Errorf(codes.FailedPrecondition, "its disk is %s, and the rejection is for %s", i.self.UUID, r.GetUuid())
	}
	if i.state == peerpb.HelloResponse_JOINING {
		return nil, status.Error(codes.FailedPrecondition, "it waits to join a cluster, which does no harm")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.accepted != nil || i.closed {
		return nil, status.Error(codes.FailedPrecondition, "it does not wait any longer")
	}
	if i.rejected == nil {
		i.rejected = fmt.Errorf("%w: %s", ErrRejected, r.GetReason())
		close(i.decided)
	}
	return &peerpb.RejectResponse{}, nil
}

// end closes the invitee to further decisions and returns the one that was made.
func (i *invitee) end() (*record, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	return i.accepted, i.rejected
}

// port is the Raft port while an invitee serves it.
type port struct {
	server *grpc.Server
	lis    *trackedListener
	done   chan error
}

// openPort listens at addr and serves i.
func (s *starter) openPort(ctx context.Context, addr string, i *invitee) (*port, error) {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: another process listens there; is this node running twice, or do two nodes have one nexus-node-url? (%w)",
			ErrPortTaken, addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: cannot listen on Raft address %s: %w: is nexus-node-url an address of this machine?", ErrConfig, addr, err)
	}
	lis = nodeport.Listen(lis, nodeport.Options{Store: s.Certs, Protocols: protocols, Clear: s.Clear, Rejected: s.rejected})
	p := &port{lis: &trackedListener{Listener: lis, conns: make(map[net.Conn]struct{})}, done: make(chan error, 1)}
	p.server = grpc.NewServer(grpc.ConnectionTimeout(s.pace.silence), grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(16), grpc.WaitForHandlers(true))
	peerpb.RegisterBootstrapServer(p.server, i)
	go func() { p.done <- p.server.Serve(p.lis) }()
	return p, nil
}

// rejected logs now and then that a stranger has called.
func (s *starter) rejected(from net.Addr, err error) {
	if n := s.strange.Now(); n > 0 {
		s.log.Warn("a connection to the Raft port is closed", "peer", from.String(), "error", err, "times", n)
	}
}

// close frees the port. Answers under way get a moment to leave; then all
// connections are cut, those that never spoke among them.
func (p *port) close() {
	// The server would wait for the handshakes of silent connections before it
	// ends any other.
	p.lis.Close()
	cut := time.AfterFunc(drainTimeout, p.lis.cut)
	p.server.GracefulStop()
	cut.Stop()
	p.lis.cut()
	<-p.done
}

// trackedListener knows the connections that it accepted.
type trackedListener struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

// Accept waits for a connection.
func (l *trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[conn] = struct{}{}
	return &trackedConn{Conn: conn, of: l}, nil
}

// cut closes all connections.
func (l *trackedListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
}

// trackedConn leaves its listener's books when it is closed.
type trackedConn struct {
	net.Conn
	of *trackedListener
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
