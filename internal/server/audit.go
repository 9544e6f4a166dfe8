package server

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// auditsPerSecond bounds the audit lines of one host in the long run, and
	// auditsAtOnce how many of them may come in a row: far more than people and scripts
	// need, and too few to fill a disk.
	auditsPerSecond, auditsAtOnce = 20, 500
	// auditedHosts is from how many hosts lines are bounded apart; those of further ones
	// are bounded together.
	auditedHosts = 256
)

// auditLog is the log of administrative calls. Every call is in it, by a line of its
// own or, if its host makes too many, by their number: no host can hide the calls of
// another one.
type auditLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	hosts  map[netip.Addr]*auditedHost
}

// auditedHost is what the log knows of a host, or of all that are too many.
type auditedHost struct {
	limit      *rate.Limiter
	suppressed int // since the last line
}

func newAuditLog(l *slog.Logger) *auditLog {
	return &auditLog{logger: l, hosts: make(map[netip.Addr]*auditedHost)}
}

// write logs a call of a host, or counts it.
func (l *auditLog) write(from netip.Addr, now time.Time, args ...any) {
	l.mu.Lock()
	h := l.host(from)
	due := h.limit.AllowN(now, 1)
	suppressed := h.suppressed
	if due {
		h.suppressed = 0
	} else {
		h.suppressed++
	}
	l.mu.Unlock()
	if !due {
		return
	}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	l.logger.Info("audit", args...)
}

// host is what is known of a host. The caller holds mu.
func (l *auditLog) host(from netip.Addr) *auditedHost {
	h := l.hosts[from]
	if h == nil && len(l.hosts) >= auditedHosts {
		from = netip.Addr{} // all of them
		h = l.hosts[from]
	}
	if h == nil {
		h = &auditedHost{limit: rate.NewLimiter(auditsPerSecond, auditsAtOnce)}
		l.hosts[from] = h
	}
	return h
}

// tell logs how many calls were left out, and forgets hosts that have been quiet.
func (l *auditLog) tell(now time.Time) {
	l.mu.Lock()
	told := make(map[netip.Addr]int)
	for from, h := range l.hosts {
		switch {
		case h.suppressed > 0:
			told[from] = h.suppressed
			h.suppressed = 0
		case h.limit.TokensAt(now) >= auditsAtOnce:
			delete(l.hosts, from)
		}
	}
	l.mu.Unlock()
	for from, n := range told {
		host := "several"
		if from.IsValid() {
			host = from.String()
		}
		l.logger.Warn("audit lines are suppressed: too many administrative calls", "host", host, "suppressed", n, "limit_per_second", auditsPerSecond)
	}
}
