package identify

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
)

// logInterval is the least time between two lines about wrong credentials: an attack must
// not fill the disk.
const logInterval = 10 * time.Second

// rejected counts and logs a wrong credential, and slows a host down that sends many of them.
// It returns the error for the caller. detail shows nothing of the credential.
func (f *File) rejected(host netip.Addr, why reason, detail error) error {
	f.counts.reject(why)
	f.rejections.log(f.log, host, why, detail)
	f.brake.Failed(host)
	return auth.ErrRejected
}

// rejections logs wrong credentials.
type rejections struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

func (r *rejections) log(log *slog.Logger, host netip.Addr, why reason, detail error) {
	r.mu.Lock()
	now := time.Now()
	if now.Before(r.next) {
		r.skipped++
		r.mu.Unlock()
		return
	}
	skipped := r.skipped
	r.skipped, r.next = 0, now.Add(logInterval)
	r.mu.Unlock()
	attributes := []any{"host", host.String(), "reason", string(why), "suppressed", skipped}
	if detail != nil {
		attributes = append(attributes, "error", detail)
	}
	log.Warn("a call was rejected for its token or certificate", attributes...)
}
