package slave

import (
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// crowdedFor is for how long a copy asks for changes after a master has admitted no more streams.
const crowdedFor = 5 * time.Minute

// errCrowded means that a master admits no more streams.
var errCrowded = errors.New("it admits no more streams (max-streams there); it is asked for changes for a while instead")

// crowded returns errCrowded in the place of the error of a stream that the master did not admit. Each
// vBucket of each slave is a stream: those that it has no place for would come again and again, and
// never get on. A copy that the log's owner waits for has to follow by a stream all the same.
func (s *session) crowded(err error) error {
	if s.mode != Stream || kv.KindOf(err) != kv.Exhausted || isLocal(err) || s.listed.Load() {
		return err
	}
	until := time.Now().Add(crowdedFor)
	s.polls.Store(&until)
	return errCrowded
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
