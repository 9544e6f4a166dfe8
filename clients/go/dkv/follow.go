package dkv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

// follower follows one vBucket.
type follower struct {
	*watcher
	vBucket int
	name    string
	at      Position
	// last is the index of the last change that was returned, or where the watch began. There are
	// none after it up to at.
	last uint64
	// refusals counts the streams that nodes with the history refusedBy have refused, as they do
	// not have the watch's. No message of the watch's own history takes that back.
	refusedBy string
	refusals  int
	// trimmed are the nodes that do not retain what comes after at, or do not have it, and gone is the
	// error of the last one that does not retain it: how far back changes are kept is each node's own.
	trimmed []*node
	gone    error
	// since is when the first of them said so.
	since time.Time
	turns turns // at fixed addresses
	// accepted reports that the last stream has brought a message: the node knew the caller.
	accepted bool
	// stranger is the error of the last node that refused if it belongs to another cluster; otherwise nil.
	stranger error
	// formerFor is for how long nodes of an earlier era, or of another cluster, have refused, and no others have
	// answered; formerAt is when the last one did. They are zero if none did.
	formerFor time.Duration
	formerAt  time.Time
	// silent reports that not all fixed addresses have answered when they were last asked for their histories.
	silent bool
}

// watchSilence is how long a stream may bring no message before it counts as broken:
// servers send one each half second.
const watchSilence = 10 * time.Second

// formerWithin is how long a watch waits at nodes of an earlier era, or of another cluster. Those that a
// promotion has replaced learn of it within moments of meeting the new masters; a database that was
// set up again from nothing, or whose promotion was discarded, never comes to that era.
//
// formerWithinSilence is how long it waits at nodes of an earlier era while others at fixed addresses do not
// answer: those may be the new masters.
const (
	formerWithin        = time.Minute
	formerWithinSilence = 10 * time.Minute
)

// othersWithin is how long a watch waits for masters that may retain what others do not: a promotion makes
// masters slaves, which retain nothing from before, a moment before the new ones are known.
const othersWithin = 3 * time.Second

// follow opens one stream after the other until one fails with an error that a retry does
// not help.
func (f *follower) follow(ctx context.Context) error {
	c := f.client
	var n *node
	for pause := firstPause; ; pause = nextPause(pause) {
		if c.closed.Load() {
			return errClosed()
		}
		if n = f.node(n); n == nil && f.gone != nil {
			if time.Since(f.since) >= othersWithin {
				return f.explain(f.gone)
			}
			c.learner.probeSoon()
			_ = c.sleep(ctx, jitter(pause))
			if ctx.Err() != nil {
				return errorf(nil, "the watch of vBucket %s was ended: %w", f.name, causeOf(ctx))
			}
			continue
		}
		before := f.at
		err := f.stream(ctx, n)
		if ctx.Err() != nil {
			return errorf(nil, "the watch of vBucket %s was ended: %w", f.name, causeOf(ctx))
		}
		if c.closed.Load() {
			return errClosed()
		}
		if f.at != before {
			pause, f.trimmed, f.gone = firstPause, nil, nil
		}
		switch {
		case kv.KindOf(err) == kv.OutOfRange:
			if f.gone == nil {
				f.since = time.Now()
			}
			f.trimmed, f.gone, f.stranger = append(f.trimmed, n), err, nil
		case !f.mayRetry(ctx, n, err):
			return f.explain(err)
		case f.gone != nil && (errors.Is(err, errOutOfTouch) || errors.Is(err, ErrPrecondition)):
			f.trimmed = append(f.trimmed, n) // which may say the same for ever
		}
		c.opts.log.Debug("watch is broken", "vBucket", f.name, "error", err)
		c.learner.probeSoon()
		_ = c.sleep(ctx, max(jitter(pause), kv.RetryAfterOf(err))) // the loop checks ctx and the client again
	}
}

// node returns the node for the next stream, after one at avoid: the leader, or another master.
// Once a node has not retained the changes, it is one that has not been asked for them; nil if
// there is none.
func (f *follower) node(avoid *node) *node {
	t := f.client.topology.Load()
	if f.gone == nil && f.client.opts.fixed && avoid != nil {
		return f.turns.next(t, avoid)
	}
	if f.gone == nil {
		return t.forWrite(f.vBucket, avoid)
	}
	for _, n := range append([]*node{t.vBuckets[f.vBucket].leader}, t.masters...) {
		if n != nil && n.reachable() && !slices.Contains(f.trimmed, n) {
			return n
		}
	}
	return nil
}

// passes reports whether an error can be expected to pass by itself: no node could be reached, or
// a limit that a server says when to try again at.
func passes(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrExhausted) && kv.RetryAfterOf(err) > 0
}

// mayRetry reports whether another stream may succeed, after an error of a node. A node may reject
// a stream because it is behind the node before, or because it has another history. Only the latter
// ends the watch, and only if it is the leader's history: a node of that knows whether the
// watch can go on in it. A stream ends when its token does; the token of now may be another one.
func (f *follower) mayRetry(ctx context.Context, n *node, err error) bool {
	f.stranger = nil
	switch {
	case rejected(err):
		return f.accepted
	case keepsNoKeys(err): // another address, or its next role, may be a master's
		if f.silent {
			f.history(ctx) // those that were silent may have answered since
		}
		return f.waitsAtFormer()
	}
	if passes(err) || !errors.Is(err, ErrPrecondition) {
		return passes(err)
	}
	if f.stranger = f.otherCluster(ctx, n); f.stranger != nil {
		return f.waitsAtFormer()
	}
	current := f.history(ctx)
	if current != "" && era.Of(current) < era.Of(f.at.History) {
		return f.waitsAtFormer()
	}
	f.formerFor, f.formerAt = 0, time.Time{}
	if current == "" || f.at.History == "" || current == f.at.History || !f.isPast(ctx, n, current) {
		return true
	}
	if f.refusedBy != current {
		f.refusedBy, f.refusals = current, 0
	}
	f.refusals++
	return f.refusals < 2 // the node may have come to that history after its answer
}

// otherCluster returns the error of a node that belongs to another cluster than the client, as one may that has
// the address of a former node; otherwise nil.
func (f *follower) otherCluster(ctx context.Context, n *node) error {
	if f.client.opts.fixed {
		return nil
	}
	resp, err := f.status(ctx, n)
	if err != nil {
		return nil
	}
	return f.client.topology.Load().strange(n, resp)
}

// waitsAtFormer notes that nodes of an earlier era, or of another cluster, refuse, and reports whether others
// may yet answer. Time in which none could be reached counts little.
func (f *follower) waitsAtFormer() bool {
	now := time.Now()
	if !f.formerAt.IsZero() {
		f.formerFor += min(now.Sub(f.formerAt), watchSilence)
	}
	f.formerAt = now
	if f.silent {
		return f.formerFor < formerWithinSilence
	}
	return f.formerFor < formerWithin
}

// isPast reports whether a node is past the watch in a history. One that has a history of a later era and
// is behind rejects the watch for what it has yet to receive: all that a promotion begins with is above
// what was watched before. One of an earlier era may be a former master, while the new ones are away.
// To another history of the same era nothing leads, and a database that was set up again and restored
// from a backup may have lower numbers for ever.
func (f *follower) isPast(ctx context.Context, n *node, history string) bool {
	resp, err := f.status(ctx, n)
	return err == nil && slices.ContainsFunc(resp.GetVBuckets(), func(v *serverpb.VBucketStatus) bool {
		return v.GetVBucket() == f.name && v.GetHistoryId() == history &&
			(v.GetAppliedIndex() >= f.at.Index || era.Of(history) == era.Of(f.at.History))
	})
}

// history is the one that the vBucket has now; empty if that is not known.
func (f *follower) history(ctx context.Context) string {
	t := f.client.topology.Load()
	if !f.client.opts.fixed {
		return t.vBuckets[f.vBucket].history
	}
	return f.ask(ctx, t.masters)
}

// ask returns the history that nodes at fixed addresses say the vBucket has: that of its leader,
// or the watch's own if any node still has that. Without a leader all have to answer. Nodes
// that a promotion has replaced count only if there are no others.
func (f *follower) ask(ctx context.Context, nodes []*node) string {
	found, led, former := "", "", ""
	f.silent = false
	for _, n := range nodes {
		resp, err := f.status(ctx, n)
		if err != nil {
			f.silent = true
			continue
		}
		for _, v := range resp.GetVBuckets() {
			switch {
			case v.GetVBucket() != f.name:
			case era.Of(v.GetHistoryId()) < era.Of(cmp.Or(led, f.at.History)):
				if v.GetIsLeader() {
					former = v.GetHistoryId()
				}
			case v.GetIsLeader():
				led = v.GetHistoryId()
			case found != f.at.History:
				found = v.GetHistoryId()
			}
		}
	}
	switch {
	case led != "":
		return led
	case found == "" && former != "":
		return former
	case f.silent:
		return ""
	default:
		return found
	}
}

// status asks a node for its status. Each node has a time limit of its own: one that hangs leaves
// the others theirs.
func (f *follower) status(ctx context.Context, n *node) (*serverpb.NodeStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, watchSilence)
	defer cancel()
	resp := new(serverpb.NodeStatusResponse)
	return resp, n.invoke(ctx, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, resp)
}

func (f *follower) explain(err error) error {
	if f.stranger != nil {
		return f.stranger
	}
	var e *Error
	if errors.As(err, &e) && (e.Kind == ErrTrimmed || e.Kind == ErrPrecondition) {
		e.Kind = ErrTrimmed
		e.Err = fmt.Errorf("vBucket %s cannot be watched from change %d on: %w", f.name, f.at.Index+1, e.Err)
	}
	return err
}

// errOutOfTouch means that a node's messages show nothing of what others may have by now.
var errOutOfTouch = errors.New("another node may know more")

// stream delivers what one node sends until its stream ends. Its error is never nil.
func (f *follower) stream(ctx context.Context, n *node) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() { cancel(errStalled) })
	defer silence.Stop()
	f.accepted = false
	r := &serverpb.WatchChangesRequest{KeyPrefix: f.prefix, FromChangeNumber: f.at.Index + 1, VBucket: f.name, HistoryId: f.at.History}
	if r.HistoryId != "" {
		r.LastChange = proto.Uint64(f.last)
	}
	s, err := n.stream(ctx, serverpb.DKVReplication_WatchChanges_FullMethodName, r)
	if err != nil {
		return toError(err, n.name(), false)
	}
	for first := true; ; first = false {
		resp := new(serverpb.GetChangesResponse)
		if err := s.Recv(resp); errors.Is(err, io.EOF) {
			return errorf(ErrUnavailable, "node %s ended the stream", n.addr)
		} else if err != nil {
			return toError(n.note(ctx, err), n.addr, false)
		}
		silence.Stop() // the consumer may take any time
		f.accepted, f.formerFor, f.formerAt = true, 0, time.Time{}
		if f.replaced(resp.GetHistoryId()) {
			return errorf(ErrUnavailable, "a promotion has replaced node %s: %w", n.addr, errOutOfTouch)
		}
		if err := f.deliver(ctx, resp, first); err != nil {
			return err
		}
		if f.cutOff(n, resp) {
			return errorf(ErrUnavailable, "node %s has heard nothing of the leader for %d ms: %w", n.addr, resp.GetAgeMillis(), errOutOfTouch)
		}
		silence.Reset(watchSilence)
	}
}

// cutOff reports whether a node that sends messages has been out of touch with the leader for
// so long that its changes may be missing some, and another node may have them.
func (f *follower) cutOff(n *node, resp *serverpb.GetChangesResponse) bool {
	if resp.GetAgeMillis() < uint64(watchSilence.Milliseconds()) {
		return false
	}
	t := f.client.topology.Load()
	if f.client.opts.fixed {
		return len(t.masters) > 1
	}
	leader := t.vBuckets[f.vBucket].leader
	return leader != nil && leader != n && leader.reachable()
}

// replaced reports whether the vBucket has a leader of a later era than that of a history: what
// is added to it now is no part of what follows, even if its node does not know that yet.
func (f *follower) replaced(history string) bool {
	v := &f.client.topology.Load().vBuckets[f.vBucket]
	return !f.client.opts.fixed && v.leader != nil && v.history != history && era.Of(v.history) > era.Of(history)
}

// deliver delivers the changes of a message and moves the position. The first one of a stream
// may be of another history than the watch's, which that has led to: the node was asked for
// that.
func (f *follower) deliver(ctx context.Context, resp *serverpb.GetChangesResponse, first bool) error {
	switch got := resp.GetHistoryId(); {
	case got == f.at.History:
	case f.at.History == "":
		f.at.History = got
	case first && era.Of(got) > era.Of(f.at.History):
		// Numbers without an effect above the end of the former history may have one here.
		f.at, f.refusedBy, f.refusals = Position{Index: f.last, History: got}, "", 0
	default:
		return errorf(ErrTrimmed, "the keyspace was replaced: it has history %s now, not %s", got, f.at.History)
	}
	for _, rec := range resp.GetChanges() {
		if rec.GetChangeNumber() <= f.at.Index {
			continue // delivered before the connection broke
		}
		select {
		case f.changes <- f.change(rec):
			f.at.Index, f.last = rec.GetChangeNumber(), rec.GetChangeNumber()
		case <-ctx.Done():
			return errorf(ErrUnavailable, "%w", causeOf(ctx))
		case <-f.client.ctx.Done():
			return errClosed()
		}
	}
	// A message without changes means that there are none up to its number.
	if len(resp.GetChanges()) == 0 {
		f.at.Index = max(f.at.Index, resp.GetMasterChangeNumber())
	}
	return nil
}

func (f *follower) change(rec *serverpb.ChangeRecord) Change {
	out := Change{
		VBucket:   f.name,
		Index:     rec.GetChangeNumber(),
		History:   f.at.History,
		Time:      time.UnixMilli(int64(rec.GetClock())),
		Mutations: make([]Mutation, len(rec.GetTrxns())),
	}
	for i, t := range rec.GetTrxns() {
		m := Mutation{Key: t.GetKey(), Deleted: t.GetType() == serverpb.TrxnRecord_Delete}
		if !m.Deleted {
			m.Value, m.Expires = t.GetValue(), expiry(t.GetExpireTS())
		}
		out.Mutations[i] = m
	}
	return out
}
