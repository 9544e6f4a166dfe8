package announce

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/signal"
)

// Options configure an Announcer.
type Options struct {
	// Addresses are the registry's nodes, host:port.
	Addresses []string
	// Rows returns what the node serves, a row for each vBucket. It is called from
	// one goroutine, at each interval; neither side changes what it returns.
	Rows func() []*serverpb.RegionInfo
	// Interval is the time between two heartbeats; 0 is DefaultInterval.
	Interval time.Duration
	// Pool reaches the registry; it stays the caller's.
	Pool *peer.Pool
	Log  *slog.Logger
}

const (
	// DefaultInterval is the time between two heartbeats, and between two polls.
	DefaultInterval = time.Second
	// minCallTimeout is the least time limit of a call of one node of the registry,
	// which may have to wait for an election there.
	minCallTimeout = 3 * time.Second
	// maxBackoff is the longest pause after all nodes of the registry have failed,
	// unless the interval is longer. It is short, since a row that is not renewed
	// disappears.
	maxBackoff = 2 * time.Second
	// farewellTimeout bounds the last heartbeat.
	farewellTimeout = time.Second
	// repeatRefusal is how often a rejection of the rows is logged.
	repeatRefusal = time.Minute
	// maxRequest bounds one heartbeat's request, in bytes.
	maxRequest = 1 << 20
)

// Announcer reports to the registry what a node serves.
type Announcer struct {
	opts  Options
	nodes *nodes
	poked signal.Signal
	link  link
	// refusal is why the registry rejects the node's rows; nil while it accepts them.
	refusal atomic.Pointer[error]
	said    time.Time // when that was logged
}

// NewAnnouncer returns an announcer. It sends nothing until Run is called.
func NewAnnouncer(opts Options) *Announcer {
	if opts.Interval <= 0 {
		opts.Interval = DefaultInterval
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Announcer{
		opts:  opts,
		nodes: newNodes(opts.Pool, opts.Addresses),
		link:  link{log: opts.Log, lost: "the registry cannot be reached; this node keeps running and keeps trying", back: "the registry is reached again"},
	}
}

// Poke makes Run send the rows now, since what the node serves has changed. It does not
// wait.
func (a *Announcer) Poke() { a.poked.Raise() }

// Run sends heartbeats until ctx ends, then reports within a second that the node is
// going away.
func (a *Announcer) Run(ctx context.Context) error {
	backoff := a.opts.Interval
	for ctx.Err() == nil {
		pause, poked := a.opts.Interval, a.poked.Changed()
		switch err := a.push(ctx, a.opts.Rows(), max(minCallTimeout, 2*a.opts.Interval)); {
		case err == nil, refused(err):
			backoff = a.opts.Interval
			a.link.ok("at", a.nodes.addr())
			a.noteRefusal(err)
		case ctx.Err() != nil:
		default:
			a.link.failed(err)
			pause = jittered(backoff)
			backoff = min(2*backoff, max(maxBackoff, a.opts.Interval))
		}
		if !wait(ctx, pause, poked) {
			break
		}
	}
	a.farewell(ctx)
	return nil
}

// Refusal returns why the registry rejects this node's rows, so that neither clients nor
// slaves find it, for example because another cluster holds the database. It is nil while
// the registry accepts them or cannot be reached.
func (a *Announcer) Refusal() error {
	if err := a.refusal.Load(); err != nil {
		return *err
	}
	return nil
}

func (a *Announcer) noteRefusal(err error) {
	switch before := a.Refusal(); {
	case err == nil && before != nil:
		a.refusal.Store(nil)
		a.opts.Log.Info("the registry accepts this node's rows again")
	case err != nil:
		a.refusal.Store(&err)
		if kv.KindOf(err) != kv.KindOf(before) || time.Since(a.said) >= repeatRefusal {
			a.said = time.Now()
			a.opts.Log.Error("the registry rejects this node: neither clients nor slaves find it there", "error", err)
		}
	}
}

// push sends rows in as many requests as it takes.
func (a *Announcer) push(ctx context.Context, rows []*serverpb.RegionInfo, perNode time.Duration) error {
	var refusal error
	for _, req := range requests(rows, uint64(time.Now().Unix())) {
		err := a.nodes.try(ctx, perNode, func(ctx context.Context, p *peer.Peer) error {
			return p.Invoke(ctx, serverpb.DKVDiscovery_UpdateStatus_FullMethodName, req, new(serverpb.Status))
		})
		if err != nil && !refused(err) {
			return err
		}
		if refusal == nil {
			refusal = err // the other rows are sent all the same
		}
	}
	return refusal
}

// farewell reports that the node is going away, if the registry can be reached.
func (a *Announcer) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTimeout)
	defer cancel()
	var rows []*serverpb.RegionInfo
	for _, r := range a.opts.Rows() {
		r = proto.CloneOf(r)
		r.Status = serverpb.RegionStatus_INACTIVE
		rows = append(rows, r)
	}
	if err := a.push(ctx, rows, farewellTimeout/3); err != nil {
		a.opts.Log.Debug("the registry does not know that this node is going away; it will notice", "error", err)
	}
}

// requests divides rows into heartbeats of at most maxRequest bytes, or of one row.
func requests(rows []*serverpb.RegionInfo, timestamp uint64) []*serverpb.UpdateStatusRequest {
	var out []*serverpb.UpdateStatusRequest
	size := 0
	for _, r := range rows {
		const framing = 8 // around each row
		n := proto.Size(r) + framing
		if len(out) == 0 || size+n > maxRequest {
			out = append(out, &serverpb.UpdateStatusRequest{RegionInfo: r, Timestamp: timestamp})
			size = n
			continue
		}
		last := out[len(out)-1]
		last.More = append(last.More, r)
		size += n
	}
	return out
}

// link logs when the connection to the registry is lost and when it is back, not each
// attempt.
type link struct {
	log        *slog.Logger
	lost, back string

	down  bool
	since time.Time
}

func (l *link) failed(err error) {
	if !l.down {
		l.down, l.since = true, time.Now()
		l.log.Warn(l.lost, "error", err)
	}
}

func (l *link) ok(args ...any) {
	if l.down {
		l.down = false
		l.log.Info(l.back, append(args, "after", time.Since(l.since).Round(time.Millisecond))...)
	}
}
