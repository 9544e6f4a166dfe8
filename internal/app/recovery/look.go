package recovery

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/tail"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// plan is what is left of a cluster in the folder of a member, and what a recovery makes of it.
type plan struct {
	Member bootstrap.Membership
	// Era is the one that the recovery begins.
	Era      uint64
	VBuckets []vBucket
	// Masters are where the other members served gRPC, as far as their records are here.
	Masters []string
	// Doubts are reasons not to recover this folder.
	Doubts []string
	// Registered reports whether the database has a record in the registry.
	Registered bool
}

// vBucket is what is left of one log and its state.
type vBucket struct {
	Name    string
	History string
	Epoch   command.Epoch
	Format  uint32
	// Applied is the index of the state, Changed the clock of its newest change; 0 if none is
	// retained.
	Applied kv.Index
	Changed kv.Clock
	// Requests are remembered ones.
	Requests uint64
	// Base is the index before the first entry of the log.
	Base kv.Index
	// First and Last are the entries that the Raft log has, Term is that of the last one.
	First, Last, Term uint64
	// Sure is the index of the last command that is known to be committed, Ahead how many commands
	// there are up to it that the state does not have.
	Sure  kv.Index
	Ahead int
	// Kept are the commands behind Sure which the recovery keeps, up to the entry KeptTo. Dropped
	// are those behind that, for the reason Why.
	Kept, Dropped int
	KeptTo        uint64
	Why           string
	Members       tail.Members
	Names         map[uint64]string
	Slaves        int
}

// token is the text by which an operator confirms a plan. Another folder, another state of it, or
// one that a node was started on since has another one.
func (p *plan) token() (string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))[:16], nil
}

// folder returns the configuration of the member whose folder is named, and what has become of it.
func folder(cfg *config.Config) (*config.Config, promotion.Part, error) {
	dir := cfg.Storage.DBFolder
	switch {
	case cfg.Storage.Diskless:
		return nil, promotion.Part{}, errors.New("a diskless node leaves nothing to recover")
	case cfg.Role == config.RoleDiscovery:
		return nil, promotion.Part{}, errors.New("a registry is not recovered: start its nodes with empty folders; the nodes announce themselves again, and dkvctl -claim at a master makes the record of its database")
	}
	holds, err := datadir.Holds(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, promotion.Part{}, fmt.Errorf("db-folder %s holds no data of a dkvsrv; name the folder of the master that is left with --db-folder", dir)
	case err != nil:
		return nil, promotion.Part{}, err
	case holds != datadir.Database:
		return nil, promotion.Part{}, fmt.Errorf("db-folder %s holds %v; only a master's folder is recovered, and a slave is made the master by dkvctl -promote -force", dir, holds)
	}
	part, err := promotion.Of(dir)
	if err != nil {
		return nil, part, err
	}
	if s := part.Superseded; s != nil {
		return nil, part, fmt.Errorf("this member has yielded to the masters of era %d at %v, which have what it lacks; if those are lost as well, recover one of theirs", s.Era, s.Masters)
	}
	if r := part.Promotion; r != nil && r.Step == promotion.Decided {
		return nil, part, errors.New("a promotion that is decided is not complete: start this node once, which completes it")
	}
	return cfg.WithRole(config.RoleMaster), part, nil
}

// open locks the folder of a stopped member.
func open(cfg *config.Config, log *slog.Logger) (*node.Node, error) {
	n := node.Offline(cfg, log)
	if err := n.OpenFolder(nil); err != nil {
		return nil, errors.Join(node.StartError(err), n.Close())
	}
	return n, nil
}

// look finds what is left in the folder of a member, and changes nothing.
func look(cfg *config.Config, part promotion.Part, log *slog.Logger) (_ *plan, err error) {
	m, is, err := bootstrap.MembershipOf(cfg.Storage.DBFolder)
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, fmt.Errorf("db-folder %s is that of a standalone node, which needs no majority: start it", cfg.Storage.DBFolder)
	}
	if r := part.Promotion; r != nil && r.Recovery != nil && m.Starts == 0 {
		return nil, fmt.Errorf("this folder is recovered already, as the only master of era %d: start its node", r.Era)
	}
	n, err := open(cfg, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	logs, err := host.Look(cfg.Nexus.LogDir, m.Deployment)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	p := &plan{Member: m}
	for id, address := range m.Addresses { // one that was away for long may be in no state
		p.addMaster(n, id, address)
	}
	if m.Unfit != "" {
		p.Doubts = append(p.Doubts, m.Unfit+"; the others went on without it")
	}
	if part.Stopped.Holds() {
		p.Doubts = append(p.Doubts, fmt.Sprintf("promotion %s has stopped this member: the founder of that may be the master by now", part.Stopped.Promotion))
	}
	var failed []error
	for i, name := range n.Layout.VBuckets {
		if err := p.add(n, logs, uint64(i)+1, name); err != nil {
			failed = append(failed, fmt.Errorf("vBucket %s cannot be recovered: %w", name, err))
		}
	}
	if len(failed) > 0 {
		return nil, fmt.Errorf("all vBuckets are recovered together, or none: %w", errors.Join(failed...))
	}
	alone := true
	for i := range p.VBuckets {
		only, err := p.VBuckets[i].Members.Alone(m.Replica)
		alone = alone && only && err == nil
		p.Era = max(p.Era, era.Of(p.VBuckets[i].History)+1)
	}
	if alone {
		return nil, errors.New("this member is the only one with a vote, and needs no other one: start it")
	}
	slices.Sort(p.Masters)
	p.Masters = slices.Compact(p.Masters)
	return p, nil
}

// add looks at one vBucket.
func (p *plan) add(n *node.Node, logs *host.Stopped, shard uint64, name string) (err error) {
	dir, err := n.Dir.Present(name)
	if err != nil {
		return err
	}
	engine, err := n.Engines.Open(dir)
	if err != nil {
		return node.OpenError(err)
	}
	id, _, err := offline.Inspect(engine)
	if err == nil && id.History == "" {
		err = errors.New("this member has got nothing of its log yet")
	}
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	l, err := tail.Open(logs, shard, p.Member.Replica)
	if err != nil {
		return err
	}
	v := vBucket{
		Name: name, History: id.History, Epoch: m.Epoch(), Format: m.Format(), Applied: m.Applied(), Base: m.Base(),
		Requests: m.Requests().Entries, First: l.First, Last: l.Last, Term: l.LastTerm, Names: map[uint64]string{},
	}
	if last, found, err := m.LastChange(); err != nil {
		return err
	} else if found {
		v.Changed = last.Clock
	}
	if err := p.addRecords(n, m, &v); err != nil {
		return err
	}
	if v.Members, err = l.Members(); err != nil {
		return err
	}
	if err := v.measure(l, func(c *command.Command) { p.note(name, c) }); err != nil {
		return err
	}
	p.VBuckets = append(p.VBuckets, v)
	return nil
}

// addMaster notes where another member served.
func (p *plan) addMaster(n *node.Node, id uint64, address string) {
	if id != p.Member.Replica && address != "" && address != n.Config.Network.AdvertiseAddr {
		p.Masters = append(p.Masters, address)
	}
}

// addRecords reads what the state knows of other nodes.
func (p *plan) addRecords(n *node.Node, m *fsm.Machine, v *vBucket) error {
	for id, record := range m.Members() {
		member, err := replica.DecodeMember(record)
		if err != nil {
			continue // its name is all that is missing
		}
		v.Names[id] = member.Name
		p.addMaster(n, id, member.Address)
	}
	slaves, err := m.Slaves()
	if err != nil {
		return err
	}
	v.Slaves = len(slaves)
	record, _ := m.Standbys()
	p.noteStandbys(record)
	if by := m.Sealed(); by != "" {
		p.noteSeal(v.Name, by)
	}
	return nil
}

// note notes what a command that the state does not have may mean for the recovery.
func (p *plan) note(vBucket string, c *command.Command) {
	switch {
	case c.TooLong(): // it has no effect
	case c.Kind == command.Seal:
		p.noteSeal(vBucket, string(c.Expect))
	case c.Kind == command.SetStandbys:
		p.noteStandbys(c.Expect)
	}
}

func (p *plan) noteSeal(vBucket, promotion string) {
	p.Doubts = append(p.Doubts, fmt.Sprintf("promotion %s has sealed vBucket %s: the founder of that may be the master by now", promotion, vBucket))
}

// noteStandbys notes whether there is a record in the registry. A standing set that says nothing
// legible may say so.
func (p *plan) noteStandbys(record []byte) {
	set, err := standby.DecodeSet(record)
	p.Registered = p.Registered || err != nil || set.Leased || set.Registered
}

// measure finds what the log has behind the state. What cannot be applied to a copy of the state is
// not kept, and what is behind that neither: it depends on it.
func (v *vBucket) measure(l *tail.Log, note func(*command.Command)) error {
	at := v.Applied - v.Base
	if err := l.CheckFollows(at); err != nil {
		return err
	}
	v.Sure, v.KeptTo = v.Applied, at
	return l.Commands(at+1, l.Last, func(entry uint64, c *command.Command) error {
		note(c)
		switch {
		case v.Why != "":
			v.Dropped++
		case c.Kind == command.EndRestore && entry <= l.Commit:
			return fmt.Errorf("entry %d ends a restore, which this node has yet to make its state: start it until it has, which needs no other member, and stop it again", entry)
		case c.Kind == command.EndRestore:
			v.Why, v.Dropped = "the first of them would end a restore, which is not known to have been committed", 1
		case entry <= l.Commit:
			v.Ahead++
			v.Sure, v.KeptTo = v.Base+entry, entry
		default:
			v.Kept++
			v.KeptTo = entry
		}
		return nil
	})
}
