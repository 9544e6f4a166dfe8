package slave

import (
	"errors"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// crowdedFor is for how long a copy asks for changes after masters have admitted no more streams.
	crowdedFor = 5 * time.Minute
	// fullFor is for how long such a master is passed over if there is another one.
	fullFor = time.Minute
)

var (
	// errFull means that a master admits no more streams: another one may, or this one in a moment, such as when
	// that of a snapshot has ended.
	errFull = errors.New("it admits no more streams")
	// errCrowded means that it still admits none, and that no other one could be followed.
	errCrowded = errors.New("it admits no more streams, and is asked for changes for a while instead")
)

// crowded adds errFull or errCrowded to the error of a stream that the master did not admit. Each
// vBucket of each slave is a stream: those that no master has a place for would come again and again, and
// never get on. A copy that the log's owner waits for has to follow by a stream all the same.
func (s *session) crowded(err error) error {
	if s.mode != Stream || kv.KindOf(err) != kv.Exhausted || isLocal(err) || s.listed.Load() {
		return err
	}
	if s.chooser.Full(s.source.Address, fullFor) {
		return fmt.Errorf("%w: %w", errFull, err)
	}
	until := time.Now().Add(crowdedFor)
	s.polls.Store(&until)
	return fmt.Errorf("%w: %w", errCrowded, err)
}

// mode is how the copy gets changes at present.
func (p *Puller) mode() Mode {
	if p.listed.Load() {
		return Stream
	}
	if until := p.polls.Load(); until != nil && time.Now().Before(*until) {
		return Poll
	}
	return p.opts.Mode
}
