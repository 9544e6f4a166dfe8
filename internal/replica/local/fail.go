package local

import (
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
)

// fail stops mutations after a storage error: nothing may be acknowledged after a write of
// which it is not known whether it was stored. A shortage is waited out; every other error
// needs an operator. Only goroutines that Run waits for may call it.
func (l *Replica) fail(err error) {
	if !l.state.Become(replica.Failed, err, replica.Starting, replica.Serving, replica.Restoring) {
		return // it has failed before
	}
	l.opts.Log.Error("storage failed; mutations are refused", "vbucket", l.opts.VBucket, "error", err)
	if state.Shortage(err) != nil && l.opts.Generations != nil {
		l.state.Go(func() { l.state.WhenThereIsSpace(l.reopen) })
	}
}

// Status implements Replica.
func (l *Replica) Status() replica.Status {
	s := l.state.Status()
	s.Mode = replica.ModeLocal
	s.IsLeader = s.State != replica.Closed
	s.Owner = l.Owner()
	s.Age = l.Age()
	return s
}

// reopen opens the state again after a failure and admits mutations again.
func (l *Replica) reopen() error { return l.state.Recover(fsm.New) }
