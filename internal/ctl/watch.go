package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// watchBatch is how many changes are asked for at once.
const watchBatch = 1000

// watcher follows the change stream of one vBucket. Change numbers are the same on
// every node, so that it can continue at another address when one is lost.
type watcher struct {
	*session
	prefix  []byte
	next    uint64 // the number to ask for
	history string // the history that next belongs to; empty before the first answer
	left    uint64 // how many changes may still be printed, if limit > 0
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
		behind, err := w.poll(ctx)
		if err != nil || w.Limit > 0 && w.left == 0 {
			return err
		}
		if behind {
			continue
		}
		if err := w.out.W.Flush(); err != nil {
			return fmt.Errorf("cannot write the result: %w", err)
		}
		if err := pause(ctx, w.session.Poll); err != nil {
			return err
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
		return false, fmt.Errorf("the database was replaced: change numbers from %d on belong to another history; watch again", w.next)
	}
	w.history = res.GetHistoryId()
	for _, change := range res.GetChanges() {
		if err := w.print(change); err != nil {
			return false, err
		}
		w.next = change.GetChangeNumber() + 1
		if w.Limit > 0 && w.left == 0 {
			return false, nil
		}
	}
	newest := res.GetMasterChangeNumber()
	if len(res.GetChanges()) == 0 && newest >= w.next {
		w.next = newest + 1 // the entries up to newest changed nothing
	}
	return w.next <= newest, nil
}

func (w *watcher) explainRange(err error) error {
	var re *nodes.RequestError
	if errors.As(err, &re) && re.Code == codes.OutOfRange {
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
