package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/sleep"
)

// DefaultNodeName is the NodeName of Options that have none.
const DefaultNodeName = "dkv-node"

const (
	// lookEvery is how often Watch looks whether the files have changed.
	lookEvery = 5 * time.Second
	// settle is for how long changed files must stay as they are before they are used: they
	// may be half written.
	settle = time.Second
	// patience is for how long files may be unusable before that is logged: certificate and
	// key are often replaced one after the other.
	patience = 15 * time.Second
	// soon is how long before a certificate expires the node reports it.
	soon = 14 * 24 * time.Hour
	// remindEvery is how often the log repeats that.
	remindEvery = 24 * time.Hour
)

// Store holds the certificates that the node uses at the moment. A nil Store is that of a
// node without TLS: its Mode is Off.
type Store struct {
	opts    Options
	current atomic.Pointer[set]
	changed signal.Signal
	// unusable is whether the files were changed to ones that cannot be used.
	unusable atomic.Bool

	mu     sync.Mutex // held while a set replaces another
	warned string
	ports  []*failures

	reminded time.Time // used by Watch alone
}

// Open reads and checks the files. The error says which file cannot be used, why, and what
// to do. It returns nil if the mode is Off.
func Open(o Options) (*Store, error) {
	if o.Mode == Off || o.Mode == "" {
		return nil, nil
	}
	if o.NodeName == "" {
		o.NodeName = DefaultNodeName
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS13
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{opts: o}
	m, err := o.read()
	if err != nil {
		return nil, err
	}
	first, err := o.parse(m, time.Now())
	if err != nil {
		return nil, err
	}
	s.use(first)
	return s, nil
}

// Mode returns whether connections use TLS.
func (s *Store) Mode() Mode {
	if s == nil {
		return Off
	}
	return s.opts.Mode
}

// NodeName returns the DNS name that the certificates of nodes carry; "" without TLS.
func (s *Store) NodeName() string {
	if s == nil {
		return ""
	}
	return s.opts.NodeName
}

// Changed returns a channel that is closed when another set is in use; see package signal.
func (s *Store) Changed() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.changed.Changed()
}

// CallableByNodes returns why other nodes would not call this one: the certificate that it shows
// now is not one of a node, as a slave's need not be.
func (s *Store) CallableByNodes() error {
	if s == nil {
		return nil
	}
	if own := s.current.Load().cert.Leaf; !slices.Contains(own.DNSNames, s.opts.NodeName) {
		return fmt.Errorf("%s %s: %w", certKey, s.opts.CertFile, s.opts.noNode(own))
	}
	return nil
}

// use makes connections from now on use a set.
func (s *Store) use(next *set) {
	s.current.Store(next)
	s.changed.Raise()
	warned := strings.Join(s.opts.warnings(), "; ")
	if warned != "" && warned != s.warned {
		s.opts.Log.Warn(warned)
	}
	s.warned = warned
}

// Reload reads the files again. If they cannot be used it logs why, returns the error, and
// the set before stays in use.
func (s *Store) Reload() error {
	if s == nil {
		return nil
	}
	m, err := s.opts.read()
	if err == nil {
		err = s.replace(m)
	}
	if err != nil {
		s.noteUnusable(err)
	}
	return err
}

// replace uses what was read, if that is possible.
func (s *Store) replace(m material) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.opts.parse(m, time.Now())
	if err != nil {
		return err
	}
	s.unusable.Store(false)
	if next.equal(&s.current.Load().material) {
		return nil
	}
	s.use(next)
	s.opts.Log.Info("new certificates are in use", "serial", next.cert.Leaf.SerialNumber.Text(16), "expires", next.cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// noteUnusable logs why the files cannot be used, and has Fault say that they cannot.
func (s *Store) noteUnusable(err error) {
	s.unusable.Store(true)
	s.opts.Log.Error("the files with certificates cannot be used; those that were read before stay in use", "error", err)
}

// Watch uses new files soon after they have replaced the old ones, and reports in the log
// that a certificate expires soon, until ctx ends.
func (s *Store) Watch(ctx context.Context) {
	if s == nil {
		return
	}
	s.remind(time.Now())
	var seen sight
	for pause := lookEvery; sleep.For(ctx, pause); {
		pause = s.look(&seen)
		s.remind(time.Now())
	}
}

// sight is a state of the files in which they are not in use.
type sight struct {
	material
	unreadable string
	since      time.Time
	logged     bool
}

// look reads the files and uses them if they have changed and stayed that way since the look
// before. It returns when to look next.
func (s *Store) look(seen *sight) time.Duration {
	m, err := s.opts.read()
	if err == nil && m.equal(&s.current.Load().material) {
		*seen = sight{}
		s.unusable.Store(false)
		return lookEvery
	}
	unreadable := ""
	if err != nil {
		unreadable = err.Error()
	}
	now := time.Now()
	if seen.since.IsZero() || !seen.equal(&m) || seen.unreadable != unreadable {
		*seen = sight{material: m, unreadable: unreadable, since: now}
		return settle
	}
	if err == nil {
		err = s.replace(m)
	}
	if err == nil {
		*seen = sight{}
		return lookEvery
	}
	if now.Sub(seen.since) < patience {
		return settle
	}
	if !seen.logged {
		seen.logged = true
		s.noteUnusable(err)
	}
	return lookEvery
}

// Expiry is when a certificate expires.
type Expiry struct {
	// Of is "node" for the node's own certificate, "authority" for the first of those that
	// vouch for it.
	Of   string
	File string
	At   time.Time
}

// Expiries returns when the certificates in use expire.
func (s *Store) Expiries() []Expiry {
	if s == nil {
		return nil
	}
	c := s.current.Load()
	return []Expiry{{"node", s.opts.CertFile, c.cert.Leaf.NotAfter}, {"authority", s.opts.CAFile, c.authorities}}
}

// Fault says what is wrong with the files: that they cannot be used, since they have changed, and which
// certificate expires soon; "" is nothing. Every caller may read it in the health of a node, so it
// does not say what is in them.
func (s *Store) Fault(now time.Time) string {
	expires := s.ExpiresSoon(now)
	if s == nil || !s.unusable.Load() {
		return expires
	}
	const unusable = "the files with certificates have changed and cannot be used, so that what was read before still holds, also for authorities that were withdrawn, and the next start will fail: correct them, the log says what is wrong"
	if expires == "" {
		return unusable
	}
	return unusable + "; " + expires
}

// ExpiresSoon says which certificate expires within two weeks, or has expired, and what to
// do; "" is none.
func (s *Store) ExpiresSoon(now time.Time) string {
	var out []string
	for _, e := range s.Expiries() {
		left := e.At.Sub(now)
		switch at := e.At.UTC().Format("2006-01-02 15:04 MST"); {
		case left <= 0:
			out = append(out, fmt.Sprintf("the certificate in %s expired at %s, and connections fail: replace the file", e.File, at))
		case left < soon:
			out = append(out, fmt.Sprintf("the certificate in %s expires at %s: replace the file before that", e.File, at))
		}
	}
	return strings.Join(out, "; ")
}

// remind logs once a day that a certificate expires soon.
func (s *Store) remind(now time.Time) {
	what := s.ExpiresSoon(now)
	if what == "" {
		s.reminded = time.Time{}
		return
	}
	if s.reminded.IsZero() || now.Sub(s.reminded) >= remindEvery {
		s.reminded = now
		s.opts.Log.Warn(what)
	}
}
