package succession

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// Service serves the calls of promotions on a node, whatever its role, and does what they
// lead to.
type Service struct {
	// Standby serves the confirmations of slaves, if the role does.
	role.Standby
	node *node.Node
	role role.Role
	part promotion.Part
	pool *peer.Pool
	call calls
	// set reaches the other nodes of a promotion, copies are this slave's own.
	set    set
	copies copies
	// founder is set on slaves, former on nodes whose log is their own.
	founder *promotion.Founder
	former  *promotion.Former
	// rejoin ends the role once an operator has ordered a rejoin.
	rejoin chan struct{}
	// record is the record in the registry, on slaves that may be promoted; nil if they ask
	// none.
	record *record
	// lease is that of a master; nil if it needs none.
	lease *witness.Keeper
	// registry has the record of a master, nil if it asks none; seals are those of its logs.
	registry witness.Registry
	seals    seals
	stops    stops
}

// New makes the service of a node whose role is open.
func New(n *node.Node, r role.Role, part promotion.Part) (*Service, error) {
	options, err := n.Calls()
	if err != nil {
		return nil, err
	}
	s := &Service{node: n, role: r, part: part, pool: peer.NewPool(options), rejoin: make(chan struct{}, 1)}
	s.stops.now, s.stops.ended = part.Stopped, make(chan error, 1)
	n.OnClose(s.pool.Close)
	if owner, is := r.(interface{ Standby() role.Standby }); is {
		s.Standby = owner.Standby()
	}
	if master, is := r.(interface{ Record() *witness.Keeper }); is {
		s.lease = master.Record()
	}
	s.call = calls{pool: s.pool, database: n.Layout.Database}
	dir := ""
	if n.Dir != nil {
		dir = n.Dir.Path()
	}
	if slave, is := r.(Slave); is {
		s.call.known = slave.Masters
		s.copies, s.set = copies{slave}, set{&s.call, n}
		opts := promotion.Options{Dir: dir, Copies: s.copies, Masters: &s.call, Set: &s.set, Unfit: n.Unfit, Log: n.Log}
		if s.record, err = newRecord(n, s.pool, slave); err != nil {
			return nil, err
		}
		if s.record != nil {
			opts.Registry = s.record
		}
		s.founder = promotion.NewFounder(opts, undecided(part.Promotion))
	} else if n.Config.Role != config.RoleDiscovery {
		s.set = set{&s.call, n}
		if !n.Config.Discovery.Disabled {
			s.registry = witness.NewClient(s.pool, n.Config.Discovery.Client.Addrs, 0)
		}
		s.former = &promotion.Former{Dir: dir, Own: s.own, Led: s.led, Members: s.members, Ask: s.call.histories, Log: n.Log}
	}
	return s, nil
}

// undecided is a promotion that has to go on, or to be released; nil for none.
func undecided(r *promotion.Record) *promotion.Record {
	if r.Under() || r != nil && r.Step == promotion.Abandoning {
		return r
	}
	return nil
}

// own are the histories of the own vBuckets.
func (s *Service) own() map[string]string {
	out := map[string]string{}
	for _, v := range s.role.VBuckets() {
		out[v.Name] = v.Status().Identity.History
	}
	return out
}

// Run does what promotions need beside the calls, until ctx ends. The error is
// promotion.ErrDecided or promotion.ErrSuperseded once the node is to be something else.
func (s *Service) Run(ctx context.Context) error {
	if s.founder != nil {
		return s.runFounder(ctx)
	}
	var yielded <-chan struct{}
	if s.former != nil && s.part.Superseded == nil {
		yielded = s.former.Yielded()
	}
	if r := s.part.Promotion; r != nil && r.Step == promotion.Done && s.former != nil {
		told := make(chan error, 1)
		ctx, end := context.WithCancel(ctx)
		go func() { told <- s.notices(ctx, *r) }()
		defer func() { end(); <-told }()
	}
	if s.former != nil {
		watched := make(chan struct{})
		ctx, end := context.WithCancel(ctx)
		go func() { defer close(watched); s.watchSeals(ctx) }()
		defer func() { end(); <-watched }()
	}
	if yielded != nil && s.lease != nil {
		heard := make(chan struct{})
		ctx, end := context.WithCancel(ctx)
		go func() { defer close(heard); s.hearOfRecord(ctx) }()
		defer func() { end(); <-heard }()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-yielded:
	case <-s.rejoin:
	case why := <-s.stops.ended:
		return why
	}
	return promotion.ErrSuperseded
}

// notices tells the former masters that this node has replaced them, alone or with others.
func (s *Service) notices(ctx context.Context, r promotion.Record) error {
	req := &peerpb.YieldRequest{Database: s.node.Layout.Database, Era: r.Era, Masters: r.Addresses(), Rejoin: r.Planned}
	if len(req.Masters) == 0 {
		req.Masters = []string{s.node.Info.Address}
	}
	successor := promotion.Successor{
		Dir: s.node.Dir.Path(), Become: s.set.Become, Unseal: s.set.Unseal, Log: s.node.Log,
		Yield: func(ctx context.Context, master string) ([]string, error) { return s.call.yield(ctx, master, req) },
	}
	err := successor.Run(ctx, r)
	if err != nil {
		s.node.Log.Error("former masters are not told any more that they were replaced", "error", err)
	}
	return err
}

// SealDatabase implements Standby.
func (s *Service) SealDatabase(ctx context.Context, r *peerpb.SealDatabaseRequest) (*peerpb.SealDatabaseResponse, error) {
	if r.GetDatabase() != s.node.Layout.Database {
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, r.GetDatabase())
	}
	if r.GetPromotion() == "" {
		return nil, kv.Errorf(kv.Invalid, "a seal needs the id of a promotion")
	}
	if n := len(r.GetPromotion()); n > command.MaxPromotion {
		return nil, kv.Errorf(kv.Invalid, "the id of a promotion has %d bytes and may have %d", n, command.MaxPromotion)
	}
	if s.founder != nil && r.GetUnseal() {
		return new(peerpb.SealDatabaseResponse), nil // a former master: its log is set aside
	}
	if s.founder != nil {
		return nil, kv.Errorf(kv.Precondition, "this node is a slave and owns no log; seal the master")
	}
	resp := &peerpb.SealDatabaseResponse{Count: uint32(len(s.role.VBuckets())), Masters: s.members(), Leased: s.lease != nil}
	kind := command.Seal
	if r.GetUnseal() {
		kind = command.Unseal
	}
	sealed := false // some of them: the promotion has to end that if it is given up
	failed := func(v role.VBucket, err error) error {
		err = fmt.Errorf("vBucket %s: %w", v.Name, err)
		if sealed {
			return kv.UnknownOutcome(kv.KindOf(err), err)
		}
		return err
	}
	for _, v := range s.role.VBuckets() {
		index, err := sealNow(ctx, v, kind, r.GetPromotion())
		if err != nil {
			return nil, failed(v, err)
		}
		if index == 0 {
			continue // another node owns the log
		}
		sealed = true
		var digest uint64
		if kind == command.Seal {
			if digest, err = lastDigest(v); err != nil {
				return nil, failed(v, fmt.Errorf("its newest change: %w", err))
			}
		}
		resp.VBuckets = append(resp.VBuckets, &peerpb.SealedVBucket{VBucket: v.Name, History: v.Status().Identity.History, Index: index, Digest: digest})
		resp.Leased = resp.Leased || hasRecord(v)
	}
	s.node.Log.Warn("a promotion of another node asks for this", "what", kind.String(), "promotion", r.GetPromotion())
	return resp, nil
}

// hasRecord reports whether a log says that its owners need the lease of the record in the
// registry, or that there was one. A log that says nothing legible may say so.
func hasRecord(v role.VBucket) bool {
	log, is := v.Replica.(interface {
		Standbys() (record []byte, changed kv.Index)
	})
	if !is {
		return false
	}
	record, _ := log.Standbys()
	return recorded(record)
}

// recorded is hasRecord of the standing set of a log.
func recorded(record []byte) bool {
	set, err := standby.DecodeSet(record)
	return err != nil || set.Leased || set.Registered
}

// lastDigest returns the digest of the newest change of a log; 0 if that is not known.
func lastDigest(v role.VBucket) (uint64, error) {
	if log, is := v.Replica.(interface{ LastDigest() (uint64, error) }); is {
		return log.LastDigest()
	}
	return 0, nil
}

// sealNow seals a log that this node owns, or ends a seal at any member, and returns the index;
// 0 if another node has to be asked. Any member confirms a seal that its state has, since a log
// that is sealed may have no owner.
func sealNow(ctx context.Context, v role.VBucket, kind command.Kind, id string) (kv.Index, error) {
	r, is := v.Replica.(sealed)
	if is && kind == command.Seal && r.Sealed() == id {
		// This state may lack an Unseal: what it says after an entry of its own is true of
		// the log. The entry ends the seal of no promotion.
		if _, err := seal(ctx, v, command.Unseal, kv.NewID()); err != nil {
			return 0, err
		}
		if by, at := r.SealedAt(); by == id {
			return at, nil
		}
	}
	if kind == command.Seal && !v.Owner().Self {
		return 0, nil
	}
	index, err := seal(ctx, v, kind, id)
	if err == nil && is && kind == command.Unseal && r.Sealed() == id {
		err = kv.Errorf(kv.Unavailable, "the seal of promotion %s has not ended here yet; try again", id)
	}
	return index, err
}

// seal seals a log, or ends that, and returns the index of the seal.
func seal(ctx context.Context, v role.VBucket, kind command.Kind, id string) (kv.Index, error) {
	result, err := v.Propose(ctx, &command.Command{Kind: kind, Expect: []byte(id)})
	if kind == command.Seal && errors.Is(err, replica.ErrRestoring) {
		result.Code, err = command.Restoring, nil // a rejection, after which no master is to be stopped
	}
	if err != nil {
		return 0, err
	}
	switch result.Code {
	case command.OK:
		return result.Index, nil
	case command.Sealed:
		return 0, kv.Errorf(kv.Precondition, "another promotion has sealed it already; end that with dkvctl -promote -abandon here, if its founder is gone")
	case command.Restoring:
		return 0, kv.Errorf(kv.Precondition, "a restore is in progress; retry when it is done")
	default:
		return 0, kv.Errorf(kv.Precondition, "the log does not accept it: %v", result.Code)
	}
}

// GetHistories implements Standby.
func (s *Service) GetHistories(ctx context.Context, r *peerpb.GetHistoriesRequest) (*peerpb.GetHistoriesResponse, error) {
	if r.GetDatabase() != s.node.Layout.Database {
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, r.GetDatabase())
	}
	found, err := descents(ctx, s.role.VBuckets())
	if err != nil {
		return nil, err
	}
	return &peerpb.GetHistoriesResponse{VBuckets: found}, nil
}

// Yield implements Standby.
func (s *Service) Yield(ctx context.Context, r *peerpb.YieldRequest) (*peerpb.YieldResponse, error) {
	switch {
	case r.GetDatabase() != s.node.Layout.Database:
		return nil, kv.Errorf(kv.Precondition, "this node keeps the database %q, not %q", s.node.Layout.Database, r.GetDatabase())
	case s.part.Superseded != nil: // who has asked before may not have written down the members
		return &peerpb.YieldResponse{Yielded: true, Masters: s.part.Superseded.Members}, nil
	case s.founder != nil:
		return &peerpb.YieldResponse{Yielded: true}, nil // it is no master
	case s.former == nil:
		return &peerpb.YieldResponse{Reason: "this node is " + s.role.Name() + " and has nothing to yield"}, nil
	}
	err := s.former.Hear(ctx, r.GetMasters(), r.GetRejoin())
	if errors.Is(err, promotion.ErrSame) {
		return &peerpb.YieldResponse{Yielded: true}, nil // another node at the address of the former master
	}
	if err != nil {
		return &peerpb.YieldResponse{Reason: err.Error()}, nil
	}
	return &peerpb.YieldResponse{Yielded: true, Masters: s.members()}, nil
}

// led reports whether the log of a vBucket has an owner that is known here.
func (s *Service) led(vBucket string) bool {
	for _, v := range s.role.VBuckets() {
		if owner := v.Owner(); v.Name == vBucket {
			return owner.Self || owner.ID != 0
		}
	}
	return false
}

// members are where the other members of this node's cluster serve.
func (s *Service) members() (out []string) {
	if now := s.part.Stopped; now.Holds() && now.Report != nil {
		return now.Report.Masters // it has no cluster while it is stopped
	}
	for _, p := range s.role.Cluster().Peers() {
		if p.GRPC != "" {
			out = append(out, p.GRPC)
		}
	}
	return out
}

// Node is the service about the node as a whole, with the calls of promotions.
func (s *Service) Node(n *maintenance.Node) serverpb.DKVNodeServer {
	if s.record != nil && s.node.Config.Replication.AutoPromoteAfter > 0 {
		n.ShowRecord(s.record.status)
	}
	return &nodeService{n, s}
}

type nodeService struct {
	*maintenance.Node
	*Service
}

// Promote implements DKVNode.
func (s *nodeService) Promote(r *serverpb.PromoteRequest, stream grpc.ServerStreamingServer[serverpb.PromoteProgress]) error {
	return s.Service.Promote(stream.Context(), r, stream.Send)
}

// Promote promotes the node, or gives a promotion up, and reports each step.
func (s *Service) Promote(ctx context.Context, r *serverpb.PromoteRequest, report func(*serverpb.PromoteProgress) error) error {
	switch {
	case s.founder == nil && r.GetAbandon():
		return s.unsealHere(ctx, r.GetForce(), report)
	case s.founder == nil && s.part.Promotion != nil:
		return kv.Errorf(kv.Precondition, "this node is the master of era %d already (not applied)", s.part.Promotion.Era)
	case s.founder == nil:
		return kv.Errorf(kv.Precondition, "this node is %s: only a slave can be promoted (not applied)", s.role.Name())
	case r.GetForce() && r.GetPlanned():
		return kv.Errorf(kv.Invalid, "a promotion is either planned or forced (not applied)")
	}
	return s.founder.Promote(ctx, promotion.Request{Force: r.GetForce(), Planned: r.GetPlanned(), Abandon: r.GetAbandon(), With: r.GetWith()}, func(p promotion.Progress) error {
		return report(&serverpb.PromoteProgress{Step: string(p.Step), Text: p.Text, Era: p.Era})
	})
}

// Rejoin implements DKVNode.
func (s *nodeService) Rejoin(ctx context.Context, r *serverpb.RejoinRequest) (*serverpb.RejoinResponse, error) {
	return s.Service.Rejoin(ctx, r.GetMasters())
}

// Rejoin makes a former master a slave. It returns when that is ordered, durably.
func (s *Service) Rejoin(ctx context.Context, masters []string) (*serverpb.RejoinResponse, error) {
	if s.former == nil || s.node.Dir == nil {
		return nil, kv.Errorf(kv.Precondition, "this node is %s, and only a former master with a disk can rejoin (not applied)", s.role.Name())
	}
	if s.part.Superseded == nil {
		if len(masters) == 0 {
			return nil, kv.Errorf(kv.Precondition, "no promotion has replaced this node, as far as it knows; name the new master: dkvctl -rejoin HOST:PORT (not applied)")
		}
		if err := s.former.Hear(ctx, masters, true); err != nil {
			return nil, kv.Errorf(kv.Precondition, "this node has not been replaced: %w (not applied)", err)
		}
	}
	part, err := promotion.Of(s.node.Dir.Path())
	if err != nil || part.Superseded == nil {
		return nil, kv.Errorf(kv.Unavailable, "what this node has yielded to cannot be read: %w", err)
	}
	order := part.Superseded
	order.Rejoin = true
	if len(masters) > 0 {
		order.Masters = masters
	}
	if err := order.Write(s.node.Dir.Path()); err != nil {
		return nil, kv.Errorf(replica.KindOf(err), "the order to rejoin cannot be stored: %w", err)
	}
	select {
	case s.rejoin <- struct{}{}:
	default: // it is ordered already
	}
	return &serverpb.RejoinResponse{Text: fmt.Sprintf("this node becomes a slave of era %d at %s; what it had is set aside until -dropAside", order.Era, strings.Join(order.Masters, ", "))}, nil
}

// ClaimRecord implements DKVNode.
func (s *nodeService) ClaimRecord(ctx context.Context, _ *emptypb.Empty) (*serverpb.ClaimRecordResponse, error) {
	master, is := s.role.(interface {
		Claim(context.Context) (string, error)
	})
	if !is || s.founder != nil {
		return nil, kv.Errorf(kv.Precondition, "this node is %s: only a master claims the record in the registry; a slave does with -promote (not applied)", s.role.Name())
	}
	text, err := master.Claim(ctx)
	if err != nil {
		return nil, err
	}
	return &serverpb.ClaimRecordResponse{Text: text}, nil
}

// DropAside implements DKVNode.
func (s *nodeService) DropAside(context.Context, *emptypb.Empty) (*serverpb.DropAsideResponse, error) {
	if s.node.Dir == nil {
		return nil, kv.Errorf(kv.Precondition, "this node is diskless, so nothing is set aside")
	}
	folders, bytes, err := DropAside(s.node.Config)
	if err != nil {
		return nil, kv.Errorf(replica.KindOf(err), "%w", err)
	}
	return &serverpb.DropAsideResponse{Folders: folders, Bytes: bytes}, nil
}
