package lease

import "context"

// HandOver gives the vBucket up in good order, so that the next owner need not
// wait for leases to end: it holds back new mutations and reads, ends the lease
// and the epoch, and calls transfer, which moves the leadership and waits until
// that is seen. Then, and also after an error, this process takes the vBucket
// over again if it still leads. It returns transfer's error; an epoch that could
// not be ended costs the next owner its wait, nothing else.
func (k *Keeper) HandOver(ctx context.Context, transfer func(context.Context) error) error {
	k.hold(1)
	defer func() {
		k.hold(-1)
		k.poke()
	}()
	if t := k.quit(); t != nil {
		if err := k.group.End(ctx, t.epoch); err != nil {
			k.counts.failures.Add(1)
			k.o.Log.Warn("the epoch could not be ended; the next owner will wait for the lease to end",
				"epoch", t.epoch, "error", err)
		}
	}
	k.revoke(nil)
	return transfer(ctx)
}

func (k *Keeper) hold(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held += n
	k.announce()
}

// quit revokes the active tenure and returns it: the one to end. An epoch whose
// wait-out is under way must not be ended, since that would tell the next owner
// that there is nothing left to wait for.
func (k *Keeper) quit() *tenure {
	if k.o.breaches.has(endFirst) {
		return k.active.Load()
	}
	t := k.revoke(nil)
	if t == nil && k.o.breaches.has(endUnused) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.waiting
	}
	return t
}
