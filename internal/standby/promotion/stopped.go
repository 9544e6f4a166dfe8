package promotion

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/kv"
)

// stoppedFile is in the data folder of a master that a promotion has stopped.
const stoppedFile = "STOPPED"

// Stopped is a promotion that has taken a master out of its logs; see S1 to S7 of the design.
type Stopped struct {
	Promotion string `json:"promotion"`
	// Token is random: a node that was stopped again has another one.
	Token string `json:"token"`
	// Report is what the node knows of its logs; nil if it crashed before it knew.
	Report *StoppedDatabase `json:"report,omitempty"`
	// Ended: the promotion was given up, and the node takes part in its logs again. That is
	// remembered, so that an order which comes late does not stop it again.
	Ended bool `json:"ended,omitempty"`
	// Earlier are other promotions that were given up, the latest last.
	Earlier []string `json:"earlier,omitempty"`
}

// mostEarlier bounds the promotions that are remembered: orders of those before are long gone.
const mostEarlier = 32

// Over reports whether a promotion was given up, so that it stops the node no more.
func (s *Stopped) Over(promotion string) bool {
	return s != nil && (s.Ended && s.Promotion == promotion || slices.Contains(s.Earlier, promotion))
}

// over returns the promotions that were given up.
func (s *Stopped) over() []string {
	switch {
	case s == nil:
		return nil
	case s.Ended:
		return append(slices.Clone(s.Earlier), s.Promotion)
	default:
		return s.Earlier
	}
}

// By returns what a promotion makes of a node that it stops.
func (s *Stopped) By(promotion string) *Stopped {
	return &Stopped{Promotion: promotion, Token: kv.NewID(), Earlier: latest(s.over())}
}

// Without returns what is left when a promotion was given up: the stop of another one goes on.
func (s *Stopped) Without(promotion string) *Stopped {
	switch {
	case s.Over(promotion):
		return s
	case s.Holds() && s.Promotion != promotion:
		next := *s
		next.Earlier = latest(append(slices.Clone(s.Earlier), promotion))
		return &next
	default:
		return &Stopped{Promotion: promotion, Ended: true, Earlier: latest(s.over())}
	}
}

func latest(promotions []string) []string {
	return promotions[max(len(promotions)-mostEarlier, 0):]
}

// Holds reports whether the node takes no part in its logs.
func (s *Stopped) Holds() bool { return s != nil && !s.Ended }

// Write replaces what has stopped a node in its data folder.
func (s *Stopped) Write(dir string) error { return write(dir, stoppedFile, s) }

// ForgetStop removes what has stopped a node: it has become something else.
func ForgetStop(dir string) error {
	if err := os.Remove(filepath.Join(dir, stoppedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}

// ErrStopped and ErrResumed mean that a master takes no part in its logs any more, or does again:
// it has to open its data folder again.
var (
	ErrStopped = errors.New("a promotion has stopped this master: it takes no part in its logs")
	ErrResumed = errors.New("the promotion that had stopped this master was given up: it takes part in its logs again")
)

// Becomes reports whether an error ends a node's role only because it is to be something else.
func Becomes(err error) bool {
	return errors.Is(err, ErrDecided) || errors.Is(err, ErrSuperseded) || errors.Is(err, ErrStopped) || errors.Is(err, ErrResumed)
}

// StoppedDatabase is what a master answers that was stopped, or might be.
type StoppedDatabase struct {
	// Deployment is the id of the masters, Token that of the stop.
	Deployment string           `json:"deployment"`
	Token      string           `json:"-"`
	VBuckets   []StoppedVBucket `json:"vbuckets"`
	// Masters are the other masters that it knows, host:port.
	Masters []string `json:"masters,omitempty"`
	// Leased reports whether the database has a record in the registry.
	Leased bool `json:"leased,omitempty"`
}

// StoppedVBucket is a log as a node has it that takes no part in it any more.
type StoppedVBucket struct {
	Name    string `json:"name"`
	History string `json:"history"`
	// Replica is the member that the node is, Term and Last those of the log's last entry.
	Replica uint64 `json:"replica"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last"`
	// End is the index of the log's last command. Fault is why the node cannot give the changes
	// up to there; empty if it can.
	End   kv.Index `json:"end"`
	Fault string   `json:"fault,omitempty"`
	// Voters are the voting members as applied, and after each change behind that.
	Voters [][]uint64 `json:"voters"`
	// Seals are the promotions for which the log is sealed behind what the node has applied. A node
	// that finds another one's does not answer.
	Seals []string `json:"-"`
	// Standbys are the standing sets that the end of the log may lead to, behind what the node has
	// applied.
	Standbys [][]byte `json:"-"`
	// Digest is that of the newest change up to End; 0 if that is not known.
	Digest uint64 `json:"digest,omitempty"`
	// Lease is the longest that an owner may have.
	Lease time.Duration `json:"lease"`
}
