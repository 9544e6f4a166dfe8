package report

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// A stream that has failed is opened again after firstPause, twice that, up to maxPause.
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
	// unservedPause is the pause after an owner that does not serve the stream: it is of an
	// earlier release.
	unservedPause = time.Minute
	// refresh is how often all is looked at again, and copies that are waited for are
	// reported although they have not moved: their owner learns that they are alive.
	refresh = time.Second
	// unhurried is the least time between two reports of copies that are not waited for.
	unhurried = 20 * time.Millisecond
)

// line is the stream to one owner.
type line struct {
	*Reporter
	address string
	end     context.CancelFunc
	// begin has a copy synced from now on.
	begin func(*reported)
	// copies is how many have this owner; Reporter.mu guards it, and said.
	copies int
	// said is what the owner has said last of copies, also while another node owned their logs:
	// it says nothing twice when one comes back to it.
	said map[*reported]Wanted
	// refused is why the owner hears nothing of this slave; nil if it does. Reporter.mu guards it.
	refused error

	mu sync.Mutex
	// due are the copies that have moved since they were reported.
	due map[*reported]bool
	// wake holds a token while there is something to report, urgent while an owner may wait
	// for it.
	wake, urgent chan struct{}
}

// add notes that a copy has moved.
func (l *line) add(c *reported) {
	l.mu.Lock()
	if l.due == nil {
		l.due = make(map[*reported]bool)
	}
	l.due[c] = true
	l.mu.Unlock()
	if c.listed() {
		raise(l.urgent)
	}
	raise(l.wake)
}

func (c *reported) listed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted.Listed
}

// take returns the copies that have moved.
func (l *line) take() map[*reported]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.due
	l.due = nil
	return due
}

// run keeps the stream until ctx ends.
func (l *line) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.stream(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errRestarted):
			continue
		case status.Code(err) == codes.Unimplemented:
			l.opts.Log.Debug("the owner knows no standbys; it is of an earlier release", "owner", l.address)
			pause = unservedPause
		case status.Code(err) == codes.AlreadyExists:
			l.refuse(err)
			pause = maxPause
		case time.Since(begun) > maxPause:
			pause = firstPause
		default:
			l.opts.Log.Debug("cannot report to the owner", "owner", l.address, "error", err)
			pause = min(2*pause, maxPause)
		}
		sleep.For(ctx, pause)
	}
}

// refuse notes that the owner hears nothing of this slave, since another one has the id of its disk.
func (l *line) refuse(err error) {
	l.Reporter.mu.Lock()
	defer l.Reporter.mu.Unlock()
	if l.refused == nil {
		l.opts.Log.Warn("this slave cannot stand by: another one has the id of its disk", "owner", l.address, "error", status.Convert(err).Message())
	}
	l.refused = fmt.Errorf("this slave cannot stand by, and writes do not wait for it: %s; stop the one that is the copy, remove the file DISK in its db-folder, and start it again",
		status.Convert(err).Message())
}

// accepted notes that the owner hears this slave.
func (l *line) accepted() {
	l.Reporter.mu.Lock()
	defer l.Reporter.mu.Unlock()
	l.refused = nil
}

// errRestarted ends a stream whose start has another id by now.
var errRestarted = errors.New("a copy has gone back; what was confirmed is void")

// errFitness ends a stream at whose beginning this node could become a master, or could not, which is
// otherwise by now.
var errFitness = errors.New("whether this node could become a master has changed")

// unfit returns why the node could not become a master.
func (o *Options) unfit() error {
	if o.Unfit == nil {
		return nil
	}
	return o.Unfit()
}

// stream opens the stream and reports over it until it fails.
func (l *line) stream(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	l.forget()
	p, err := l.opts.Pool.Peer(l.address)
	if err != nil {
		return err
	}
	stream, err := peerpb.NewStandbyClient(p.Conn()).Confirm(ctx)
	if err != nil {
		return err
	}
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer end(nil)
	hearing.Go(func() { end(l.hear(stream)) })
	if err := l.tell(ctx, stream); err != nil {
		end(err) // unless hear knows why
	}
	return context.Cause(ctx)
}

// forget drops what the owner has said: over a new stream it says all again.
func (l *line) forget() {
	l.Reporter.mu.Lock()
	defer l.Reporter.mu.Unlock()
	l.said = make(map[*reported]Wanted)
}

// tell reports all copies of the line, and then those that move.
func (l *line) tell(ctx context.Context, stream peerpb.Standby_ConfirmClient) error {
	t := time.NewTicker(refresh)
	defer t.Stop()
	says := &telling{line: l, stream: stream, start: l.present(), sent: make(map[*reported]Progress), unfit: l.opts.unfit()}
	for all := true; ; {
		if says.start != l.present() {
			return errRestarted
		}
		due := l.take()
		if all {
			if (l.opts.unfit() == nil) != (says.unfit == nil) {
				return errFitness
			}
			due = l.all()
		}
		urgent, err := says.each(due, all)
		if err != nil {
			return err
		}
		if !urgent && !l.rest(ctx) {
			return nil
		}
		select {
		case <-l.wake:
			all = false
		case <-t.C:
			l.accepted() // an owner that refuses a stream ends it at once
			all = true
		case <-ctx.Done():
			return nil
		}
	}
}

// rest waits for a moment, unless an owner may wait for a copy; it returns false when ctx
// has ended.
func (l *line) rest(ctx context.Context) bool {
	t := time.NewTimer(unhurried)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.urgent:
	case <-ctx.Done():
		return false
	}
	return true
}

// all returns the copies of the line.
func (l *line) all() map[*reported]bool {
	l.Reporter.mu.Lock()
	defer l.Reporter.mu.Unlock()
	out := make(map[*reported]bool)
	for _, c := range l.Reporter.copies {
		if c.line == l {
			out[c] = true
		}
	}
	return out
}

// telling is the sending side of a stream.
type telling struct {
	*line
	stream peerpb.Standby_ConfirmClient
	start  uint64
	// sent is what was reported over this stream.
	sent       map[*reported]Progress
	introduced bool
	// unfit is why this node could not become a master when the stream was opened.
	unfit error
}

// each reports the copies that have moved, with again also those that are waited for and
// have not. urgent reports whether one is waited for.
func (t *telling) each(due map[*reported]bool, again bool) (urgent bool, err error) {
	for c := range due {
		listed := c.listed()
		urgent = urgent || listed
		p, ok := c.Progress()
		if before, told := t.sent[c]; !ok || told && before == p && !(listed && again) {
			continue
		}
		c.mu.Lock()
		back := p.regressed(c.said)
		if !back {
			c.said = p
		}
		c.mu.Unlock()
		if back {
			t.restarted(t.start)
			return false, errRestarted
		}
		t.sent[c] = p
		if err := t.stream.Send(t.message(c, p)); err != nil {
			return false, err
		}
	}
	return urgent, nil
}

// message is what is sent of a copy. The first one of a stream introduces this node.
func (t *telling) message(c *reported, p Progress) *peerpb.Confirmation {
	m := &peerpb.Confirmation{VBucket: c.Name(), History: p.History, Received: p.Received, Applied: p.Applied, Synced: p.Synced}
	if !t.introduced {
		t.introduced = true
		o := &t.opts
		m.Disk, m.Start, m.Address, m.Dc, m.Durable = o.Disk, t.start, o.Address, o.DC, o.Durable && t.unfit == nil
		if t.unfit != nil {
			o.Log.Warn("this slave cannot stand by: it could not be a master", "error", t.unfit)
		}
	}
	return m
}

// hear receives what the owner wants, until the stream ends, and returns why that is.
func (l *line) hear(stream peerpb.Standby_ConfirmClient) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		c := l.byName[m.GetVBucket()]
		if c == nil {
			continue
		}
		l.want(c, Wanted{Listed: m.GetListed(), Sync: m.GetListed() && m.GetSync(), Owner: m.GetOwner()})
	}
}

// want notes what the owner wants of a copy. It counts while the copy has this line: the stream to
// a former owner goes on for other copies, and what that one says of this copy may come later than
// what the present owner says.
func (l *line) want(c *reported, w Wanted) {
	l.Reporter.mu.Lock()
	l.said[c] = w
	counts := c.line == l
	l.Reporter.mu.Unlock()
	if counts {
		l.heed(c)
	}
}

// heed has the copy go by what the owner that it has its line to has said last, if that has said
// anything. One call at a time, so that the last word stays.
func (r *Reporter) heed(c *reported) {
	c.heeding.Lock()
	defer c.heeding.Unlock()
	r.mu.Lock()
	l := c.line
	var w Wanted
	said := false
	if l != nil {
		w, said = l.said[c]
	}
	r.mu.Unlock()
	if !said {
		return
	}
	c.mu.Lock()
	c.wanted = w
	first := w.Sync && !c.syncing
	c.syncing = c.syncing || first
	c.mu.Unlock()
	if first {
		l.begin(c)
	}
	c.Want(l.address, w)
	raise(l.urgent)
	r.note(c)
}
