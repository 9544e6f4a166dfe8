package local

import (
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// fail stops mutations after a storage error: nothing may be acknowledged on
// top of a write whose fate is open. A shortage is waited out; everything else needs
// an operator. Only what Run waits for may call it.
func (l *Replica) fail(err error) {
	if !l.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Restoring) {
		return // it has failed before
	}
	l.opts.Log.Error("storage failed; mutations are refused", "vbucket", l.opts.VBucket, "error", err)
	if storage.Shortage(err) != nil && l.opts.Generations != nil {
		l.state.Go(func() { l.state.WhenThereIsSpace(l.reopen) })
	}
}

// Status implements Replica.
func (l *Replica) Status() replica.Status {
	s := l.state.Status()
	s.Mode = replica.ModeLocal
	s.IsLeader = s.State != replica.Closed
	s.Owner = l.Owner()
	return s
}

// reopen opens the state anew after a failure and takes mutations again.
func (l *Replica) reopen() error { return l.state.Recover(fsm.New) }
