package witness

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
)

// saying is what a log has answered to a question. It is nil before the first.
type saying struct {
	// record is the one that was known when the question was asked, and tenure the log's, before
	// the question and after it.
	record *peerpb.Record
	tenure uint64
	set    standby.Set
	err    error
}

// of reports whether the answer is of the present tenure of a log, and younger than a record.
func (s *saying) of(record *peerpb.Record, log Log) bool {
	return s != nil && s.err == nil && s.tenure == log.Tenure() && proto.Equal(s.record, record)
}

// unlisted adds the disks of standbys that do not stand in the log, at their level at least.
func (s *saying) unlisted(standbys []*peerpb.StandbyNode, to []string) []string {
	for _, one := range standbys {
		n, _ := s.set.Find(one.GetDisk())
		stands := n.Phase == standby.Standing && uint32(s.set.Level) >= one.GetLevel()
		if !stands && !slices.Contains(to, one.GetDisk()) {
			to = append(to, one.GetDisk())
		}
	}
	return to
}

// questions is the part of a lease for which logs may take to answer. What comes later counts for
// the next renewal.
const questions = 8

// inquire asks logs at the same time, and returns those that have answered: a log that accepts
// nothing keeps the lease from no other. The error is that of the first log if none has. A
// question lasts until it is answered or life ends, for a lease at most, and there is one at a
// time in each log.
func (k *Keeper) inquire(life context.Context, of []*Gate, record *peerpb.Record) (answered []*Gate, first error) {
	begun := make([]bool, len(of))
	for i, g := range of {
		if begun[i] = g.pending == nil; begun[i] {
			k.begin(life, g, record)
		}
	}
	patience := time.NewTimer(k.opts.Lease / questions)
	defer patience.Stop()
	var late <-chan time.Time = patience.C
	for i, g := range of {
		if begun[i] && late != nil {
			select {
			case g.said = <-g.pending:
				g.pending = nil
			case <-late:
				late = nil
			}
		}
		err := g.answer()
		if err != nil {
			err = kv.Errorf(kv.Unavailable, "whether this node still owns its logs is not known: vBucket %s: %w", g.log.VBucket(), err)
			first = cmp.Or(first, err)
		} else {
			answered = append(answered, g)
		}
		k.because(g, err)
	}
	if len(answered) > 0 {
		first = nil
	}
	return answered, first
}

// answer takes the answer to the question that is under way, and returns why there is none.
func (g *Gate) answer() error {
	if g.pending != nil {
		select {
		case g.said = <-g.pending:
			g.pending = nil
		default:
			return errLate
		}
	}
	return g.said.err
}

// errLate is why a log gets no lease that has not answered yet.
var errLate = kv.Errorf(kv.Unavailable, "the log has not answered a question in time")

// begin asks one log.
func (k *Keeper) begin(life context.Context, g *Gate, record *peerpb.Record) {
	answer := make(chan *saying, 1)
	g.pending = answer
	k.asking.Go(func() {
		ctx, cancel := context.WithTimeout(life, k.opts.Lease)
		defer cancel()
		s := &saying{record: record, tenure: g.log.Tenure()}
		if s.set, s.err = g.log.Ask(ctx); s.err == nil && g.log.Tenure() != s.tenure {
			s.record, s.tenure = nil, g.log.Tenure() // it accepts changes, but may have been another's
		}
		answer <- s
		k.answered.Raise()
	})
}

// because notes why a log gets no lease; nil if it gets one.
func (k *Keeper) because(g *Gate, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g.why = err
}

// settled notes that a renewal has dealt with the tenures of logs that it began with, or has been
// answered in, but for those that have not answered yet.
func (k *Keeper) settled(of []*Gate, tenures []uint64) {
	for i, g := range of {
		if g.pending != nil {
			continue
		}
		if g.said != nil {
			tenures[i] = max(tenures[i], g.said.tenure)
		}
		g.triedAt.Store(tenures[i] + 1)
	}
	k.changed.Raise()
}

func tenures(of []*Gate) (out []uint64) {
	for _, g := range of {
		out = append(out, g.log.Tenure())
	}
	return out
}
