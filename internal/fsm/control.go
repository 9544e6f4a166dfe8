package fsm

import (
	"github.com/dkvdb/dkv/internal/command"
)

// control applies c if it concerns the log and not the keyspace, and reports whether it does.
func (tx *tx) control(c *command.Command, res *command.Result) (bool, error) {
	switch c.Kind {
	case command.BeginEpoch:
		return true, tx.beginEpoch(c.Begin, res)
	case command.EndEpoch:
		tx.m.state.epoch.Ended = true
	case command.SetPaused:
		tx.m.state.paused = c.Flag
	case command.SetMember:
		tx.setMember(c.Member)
	case command.SetFormat:
		tx.setFormat(uint32(c.Delta))
	case command.SetTiming:
		tx.setTiming(c, res)
	case command.SetStandbys:
		tx.setStandbys(c, res)
	case command.Seal:
		tx.seal(c, res)
	case command.Unseal:
		tx.m.state.unseal(c.Expect)
	case command.SetSlave:
		tx.setSlave(c)
	case command.Tick:
		// The clock has been moved already.
	case command.SetClock:
		if tx.m.staged.active {
			tx.dropStaged() // the restore's other commands are fenced from here on
		}
		tx.m.state.setClock(c.Clock, res.Index)
	case command.BeginRestore:
		tx.beginRestore(c.Expect)
	case command.StageRestore:
		tx.stage(c, res)
	case command.SealRestore:
		tx.endStaging(c, res)
	case command.AbortRestore:
		if tx.m.staged.is(c.Expect) {
			tx.dropStaged()
		}
	case command.EndRestore:
		// One that takes effect is not applied here: see Restores.
		res.Code = command.NotStaged
	default:
		return false, nil
	}
	return true, nil
}
