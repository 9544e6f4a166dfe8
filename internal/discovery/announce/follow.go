package announce

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

const (
	// firstBackoff is the pause after a watch has ended: usually the registry has got
	// another owner, and the next attempt succeeds.
	firstBackoff = 50 * time.Millisecond
	// maxSilence is how long a watch may be silent; a registry sends something every
	// two seconds.
	maxSilence = 7 * time.Second
	// maxStart is how long a watch may take to begin.
	maxStart = 10 * time.Second
	// minPolls is how many times a registry that does not offer watches is polled before
	// a watch is tried again.
	minPolls = 30
)

func compare(a, b *serverpb.RegionInfo) int {
	return cmp.Or(
		cmp.Compare(a.GetDatabase(), b.GetDatabase()),
		cmp.Compare(a.GetVBucket(), b.GetVBucket()),
		cmp.Compare(a.GetNodeAddress(), b.GetNodeAddress()))
}

// follow watches the registry, at one node after the other, and polls it if it cannot be
// watched.
func (d *Directory) follow(ctx context.Context) {
	for backoff := firstBackoff; ctx.Err() == nil; {
		at := d.nodes.addr()
		began, err := d.watch(ctx)
		if began {
			backoff = firstBackoff
		} else if err = d.poll(ctx, err); err == nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		d.lose()
		if !began {
			d.link.failed(err)
		}
		if d.nodes.addr() == at { // otherwise poll has found a node that answers
			d.nodes.next()
		}
		if !wait(ctx, jittered(backoff), nil) {
			return
		}
		backoff = min(2*backoff, max(maxBackoff, d.opts.PollInterval))
	}
}

// watch follows the registry at the current node. began reports whether all rows have
// arrived.
func (d *Directory) watch(ctx context.Context) (began bool, _ error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(maxStart, func() { cancel(errSilent) })
	defer silence.Stop()
	p, err := d.nodes.reach(ctx)
	if err != nil {
		return false, err
	}
	from, err := p.Stream(ctx, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, d.opts.Filter)
	if err != nil {
		return false, err
	}
	var all []delta
	for {
		m := new(serverpb.ClusterInfoChange)
		switch err := from.Recv(m); {
		case errors.Is(err, io.EOF):
			return began, kv.Errorf(kv.Unavailable, "node %s ended the watch", d.nodes.addr())
		case err != nil:
			return began, err
		}
		silence.Reset(maxSilence)
		switch {
		case began:
			d.merge(m)
		default:
			all = append(all, deltasOf(m)...)
			if m.GetComplete() {
				began = true
				d.replace(overlay(nil, all), true)
				all = nil
				d.link.ok("at", d.nodes.addr())
			}
		}
	}
}

var errSilent = errors.New("the registry has sent nothing for too long")

// poll asks the registry for its rows. why is the error that a watch ended with. If the
// registry does not offer watches, poll asks at intervals and returns nil when it is time
// to try a watch again. Otherwise it asks once, unless rows have been followed: a node without an
// owner answers with its own copy, which may be older than those.
func (d *Directory) poll(ctx context.Context, why error) error {
	polls := kv.KindOf(why) == kv.Unimplemented
	if !polls && d.hasFollowed() {
		return why
	}
	for n := 0; ; n++ {
		resp := new(serverpb.GetClusterInfoResponse)
		err := d.nodes.try(ctx, minCallTimeout, func(ctx context.Context, p *peer.Peer) error {
			return p.Invoke(ctx, serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, d.opts.Filter, resp)
		})
		if err != nil {
			return errors.Join(why, err)
		}
		rows := overlay(nil, deltasOf(&serverpb.ClusterInfoChange{Rows: resp.GetRegionInfos()}))
		d.replace(rows, polls)
		if !polls {
			return why
		}
		d.link.ok("at", d.nodes.addr())
		if n == minPolls || !wait(ctx, d.opts.PollInterval, nil) {
			return nil
		}
	}
}
