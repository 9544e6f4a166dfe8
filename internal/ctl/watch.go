package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// watchBatch is how many changes are asked for at once.
const watchBatch = 1000

// watcher follows the changes of one vBucket. Change numbers are the same on every node,
// so that it can continue at another address when one is lost.
type watcher struct {
	*session
	prefix  []byte
	next    uint64 // the number to ask for
	history string // the history that next belongs to; empty before the first answer
	left    uint64 // how many changes may still be printed, if limit > 0
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
	node, err := w.getNodeStatus(ctx)
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
	return nil, fmt.Errorf("the node does not hold vBucket %q: it holds %s", w.VBucket, orDash(strings.Join(names, ", ")))
}

// follow prints changes until the limit is reached or a request fails. It asks again
// at once while more changes are known to exist.
func (w *watcher) follow(ctx context.Context) error {
	for {
		behind, err := w.step(ctx)
		if err != nil || w.done() {
			return err
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
		return false, w.explainRange(sent)
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
// something has come: the next stream shows whether it can go on, and where.
func (w *watcher) stream(ctx context.Context) error {
	return w.CallStream(ctx, func(ctx context.Context, conn grpc.ClientConnInterface, progress func()) error {
		err := w.receive(ctx, conn, w.next, progress)
		if status.Code(err) == codes.FailedPrecondition {
			// The node may lag: then what comes next there is before what this watch waits for.
			err = w.receive(ctx, conn, 0, progress)
		}
		return err
	})
}

// receive prints what a stream brings that begins at a number, or with the node's next change
// if from is 0. It skips what was printed before.
func (w *watcher) receive(ctx context.Context, conn grpc.ClientConnInterface, from uint64, progress func()) error {
	r := &serverpb.WatchChangesRequest{KeyPrefix: w.prefix, FromChangeNumber: from, VBucket: w.VBucket}
	if from > 0 {
		r.HistoryId = w.history
	}
	s, err := serverpb.NewDKVReplicationClient(conn).WatchChanges(ctx, r)
	if err != nil {
		return err
	}
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
		if w.history == "" {
			w.history = resp.GetHistoryId()
		}
		switch other := resp.GetHistoryId() != w.history; {
		case other && begun:
			return nil
		case other:
			return nodes.Elsewhere(w.replaced()) // which may lag as well
		}
		progress()
		if from == 0 && !begun && resp.GetMasterChangeNumber() >= w.next {
			return nil // the node has caught up, and the stream may have begun behind next
		}
		if err := w.take(resp); err != nil {
			return nodes.Local(err)
		}
		if w.done() {
			return nil
		}
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
		w.next = change.GetChangeNumber() + 1
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
	return fmt.Errorf("the database was replaced: change numbers from %d on belong to another history; watch again", w.next)
}

func (w *watcher) explainRange(err error) error {
	if codeOf(err) == codes.OutOfRange {
		return fmt.Errorf("change %d is not retained: %w; -from 0 begins at the oldest that is", w.next, err)
	}
	return err
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
