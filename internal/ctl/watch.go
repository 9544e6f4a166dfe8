package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/era"
)

const (
	// watchBatch is how many changes are asked for at once.
	watchBatch = 1000
	// watchAge is how old the state of a node may be before another one is asked, and watchLook
	// how long a watch stays with it if no other answers.
	watchAge  = 10 * time.Second
	watchLook = time.Second
)

// watcher follows the changes of one vBucket. Change numbers are the same on every node,
// so that it can continue at another address when one is lost.
type watcher struct {
	*session
	prefix  []byte
	next    uint64 // the number to ask for
	last    uint64 // that of the last change that was taken, or where the watch began
	history string // the history that next belongs to; empty before the first answer
	left    uint64 // how many changes may still be printed, if limit > 0
	// choosy has nodes left that have lost touch with the others; stale reports that one was.
	choosy, stale bool
	// polls reports that changes are asked for again and again: the nodes do not send them
	// by themselves, or not to this caller.
	polls bool
}

func runWatch(ctx context.Context, s *session, args []string) error {
	w := &watcher{session: s, left: s.Limit}
	if len(args) == 1 {
		w.prefix = prefixOf(args[0])
	}
	err := w.start(ctx)
	if err == nil {
		w.last = w.next - 1
		err = w.follow(ctx)
	}
	if ctx.Err() != nil {
		return nil // a watch ends when it is interrupted
	}
	return err
}

// start finds the first number to ask for, and the vBucket if none was named.
func (w *watcher) start(ctx context.Context) error {
	if w.From > 1 {
		w.next = w.From
		return nil
	}
	node, err := w.NodeStatus(ctx)
	if err != nil {
		return err
	}
	v, err := w.pickVBucket(node)
	if err != nil {
		return err
	}
	if w.Given["from"] {
		w.next = max(1, v.GetFirstChangeNumber())
	} else {
		w.next = v.GetAppliedIndex() + 1
	}
	w.history = v.GetHistoryId()
	return nil
}

func (w *watcher) pickVBucket(node *serverpb.NodeStatusResponse) (*serverpb.VBucketStatus, error) {
	var names []string
	for _, v := range node.GetVBuckets() {
		if v.GetVBucket() == w.VBucket || w.VBucket == "" && len(node.GetVBuckets()) == 1 {
			return v, nil
		}
		names = append(names, v.GetVBucket())
	}
	if w.VBucket == "" && len(names) > 0 {
		return nil, options.Usagef("the node holds several vBuckets: name one by -vBucket (%s)", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("the node does not hold vBucket %q: it holds %s", w.VBucket, output.OrDash(strings.Join(names, ", ")))
}

// follow prints changes until the limit is reached or a request fails. It asks again
// at once while more changes are known to exist. Once something has come it tries for the time
// of a request to go on: a promotion takes a moment.
func (w *watcher) follow(ctx context.Context) error {
	var served time.Time
	for {
		behind, err := w.step(ctx)
		switch {
		case err == nil:
			served = time.Now()
		case served.IsZero() || time.Since(served) > w.Timeout || !nodes.Passing(err):
			return err
		}
		if w.done() {
			return nil
		}
		if behind {
			continue
		}
		if err := pause(ctx, w.session.Poll); err != nil {
			return err
		}
	}
}

// done reports whether as many changes are printed as were asked for.
func (w *watcher) done() bool { return w.Limit > 0 && w.left == 0 }

// step prints changes for as long as a node sends them, or those of one answer. behind reports
// whether there are more. Nodes of the earlier system send none, and callers with the role
// replication alone may only ask for those of all keys.
func (w *watcher) step(ctx context.Context) (behind bool, err error) {
	if w.polls {
		return w.poll(ctx)
	}
	sent := w.stream(ctx)
	if code := codeOf(sent); code != codes.Unimplemented && code != codes.PermissionDenied {
		return false, sent
	}
	behind, err = w.poll(ctx)
	if w.polls = err == nil; codeOf(err) == codes.PermissionDenied && codeOf(sent) == codes.PermissionDenied {
		return false, sent // the role watch is what is missing
	}
	return behind, err
}

// codeOf returns the code with which a node has rejected a request; OK if none has.
func codeOf(err error) codes.Code {
	var re *nodes.RequestError
	if errors.As(err, &re) {
		return re.Code
	}
	return codes.OK
}

// stream prints the changes that a node sends until its stream ends. It has no error once
// something has come: the next stream shows whether it can go on, and where. A node that has lost
// touch with the others, as one that a promotion has replaced, is asked only if no other answers.
func (w *watcher) stream(ctx context.Context) error {
	w.choosy, w.stale = len(w.Addrs) > 1, false
	err := w.CallStream(ctx, w.attempt)
	if w.stale && nodes.Passing(err) {
		w.choosy = false
		err = w.CallStream(ctx, w.attempt)
	}
	return err
}

// laterError is the error of a node with a history of a later era than the watch's.
type laterError struct{ newest uint64 } // number there

func (*laterError) Error() string { return "the node has a later history" }

// attempt is stream at one node. How far back changes are kept is each node's own: a master that a
// promotion has made a slave keeps none from before it came back, and the others do.
func (w *watcher) attempt(ctx context.Context, conn grpc.ClientConnInterface, arrived func() func()) error {
	err := w.goOn(ctx, conn, arrived)
	if st := status.Convert(err); st.Code() == codes.OutOfRange {
		return nodes.Elsewhere(w.notRetained(fmt.Errorf("%s: %s", st.Code(), st.Message())))
	}
	return err
}

// goOn prints what a node sends, from where the watch is.
func (w *watcher) goOn(ctx context.Context, conn grpc.ClientConnInterface, arrived func() func()) error {
	err := w.receive(ctx, conn, w.next, arrived)
	if status.Code(err) != codes.FailedPrecondition {
		return err
	}
	// The node may lag: then what comes next there is before what this watch waits for.
	var later *laterError
	if err = w.receive(ctx, conn, 0, arrived); !errors.As(err, &later) {
		return err
	}
	// It has come to that history since its answer, or lags there too, or there is no way to that.
	err = w.receive(ctx, conn, w.next, arrived)
	switch {
	case status.Code(err) != codes.FailedPrecondition:
		return err
	case later.newest < w.next-1:
		return status.Errorf(codes.Unavailable, "the node follows a promotion, and is at change %d before %d yet", later.newest, w.next-1)
	default:
		return nodes.Local(w.replaced())
	}
}

// receive prints what a stream brings that begins at a number, or with the node's next change
// if from is 0. It skips what was printed before. The stream may be of a later history, to which
// promotions have led from the watch's and that has what was printed.
func (w *watcher) receive(ctx context.Context, conn grpc.ClientConnInterface, from uint64, arrived func() func()) error {
	r := &serverpb.WatchChangesRequest{KeyPrefix: w.prefix, FromChangeNumber: from, VBucket: w.VBucket}
	if from > 0 && w.history != "" {
		r.HistoryId, r.LastChange = w.history, proto.Uint64(w.last)
	}
	s, err := serverpb.NewDKVReplicationClient(conn).WatchChanges(ctx, r)
	if err != nil {
		return err
	}
	began := time.Now()
	for begun := false; ; begun = true {
		resp, err := s.Recv()
		switch {
		case err != nil && begun:
			return nil
		case errors.Is(err, io.EOF):
			return status.Error(codes.Unavailable, "the node has ended the stream")
		case err != nil:
			return err
		}
		if old := resp.GetAgeMillis() >= uint64(watchAge.Milliseconds()); old && w.choosy {
			w.stale = true
			if begun {
				return nil
			}
			return status.Errorf(codes.Unavailable, "the node has heard nothing of the leader for %d s", resp.GetAgeMillis()/1000)
		}
		if w.history == "" {
			w.history = resp.GetHistoryId()
		}
		switch history := resp.GetHistoryId(); {
		case history == w.history:
		case begun:
			return nil
		case era.Of(history) <= era.Of(w.history):
			return nodes.Elsewhere(w.replaced()) // which may lag as well
		case from == 0:
			return &laterError{resp.GetMasterChangeNumber()}
		default:
			// Numbers without an effect above the end of the former history may have one here.
			w.history, w.next = history, w.last+1
		}
		done := arrived()
		if from == 0 && !begun && resp.GetMasterChangeNumber() >= w.next {
			return nil // the node has caught up, and the stream may have begun behind next
		}
		if err := w.take(resp); err != nil {
			return nodes.Local(err)
		}
		if w.done() || w.stale && time.Since(began) > watchLook {
			return nil
		}
		done()
	}
}

// poll asks once and prints the changes. behind reports whether there are more.
func (w *watcher) poll(ctx context.Context) (behind bool, err error) {
	var res *serverpb.GetChangesResponse
	err = w.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		res, err = admin.Changes(ctx, conn, w.VBucket, w.next, watchBatch)
		return err
	})
	if err != nil {
		return false, w.explainRange(err)
	}
	if w.history != "" && res.GetHistoryId() != w.history {
		return false, w.replaced()
	}
	w.history = res.GetHistoryId()
	if err := w.take(res); err != nil {
		return false, err
	}
	return w.next <= res.GetMasterChangeNumber(), nil
}

// take prints the changes of an answer, and moves behind what it says.
func (w *watcher) take(resp *serverpb.GetChangesResponse) error {
	for _, change := range resp.GetChanges() {
		if change.GetChangeNumber() < w.next {
			continue
		}
		if err := w.print(change); err != nil {
			return err
		}
		w.next, w.last = change.GetChangeNumber()+1, change.GetChangeNumber()
		if w.done() {
			break
		}
	}
	if len(resp.GetChanges()) == 0 {
		w.next = max(w.next, resp.GetMasterChangeNumber()+1) // the entries up to there changed nothing
	}
	if err := w.out.W.Flush(); err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	return nil
}

func (w *watcher) replaced() error {
	return fmt.Errorf("the database was replaced, or a promotion has lost some of the changes up to %d: later numbers belong to another history; watch again", w.last)
}

func (w *watcher) explainRange(err error) error {
	if codeOf(err) == codes.OutOfRange {
		return w.notRetained(err)
	}
	return err
}

func (w *watcher) notRetained(err error) error {
	return fmt.Errorf("change %d is not retained: %w; -from 0 begins at the oldest that is", w.next, err)
}

func (w *watcher) print(change *serverpb.ChangeRecord) error {
	for _, trxn := range change.GetTrxns() {
		if !bytes.HasPrefix(trxn.GetKey(), w.prefix) {
			continue
		}
		if w.Limit > 0 {
			if w.left == 0 {
				return nil
			}
			w.left--
		}
		if err := w.printTrxn(change, trxn); err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
	}
	return nil
}

func (w *watcher) printTrxn(change *serverpb.ChangeRecord, trxn *serverpb.TrxnRecord) error {
	number := change.GetChangeNumber()
	del := trxn.GetType() == serverpb.TrxnRecord_Delete
	if w.out.JSON {
		return w.out.Document(func(o *output.Object) {
			o.Uint("index", number)
			o.Uint("clock", change.GetClock())
			if del {
				o.Str("type", "del")
				o.Bytes("key", trxn.GetKey())
				return
			}
			o.Str("type", "put")
			o.Pair(trxn.GetKey(), trxn.GetValue(), trxn.GetExpireTS())
		})
	}
	if del {
		return w.out.Raw(fmt.Appendf(nil, "%d del ", number), trxn.GetKey())
	}
	return w.out.Raw(fmt.Appendf(nil, "%d put ", number), trxn.GetKey(), []byte(" => "), trxn.GetValue())
}
