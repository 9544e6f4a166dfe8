package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/kv"
)

// finish counts and logs a call that ends; entry is that of the audit log, if it has one.
func (c *calls) finish(ctx context.Context, m *method, begin time.Time, entry *audit.Entry, req, response any, err error) {
	took := time.Since(begin)
	code := codes.OK
	if err != nil {
		code = status.Code(err)
	}
	m.observe(code, took)
	if code == codes.Internal || code == codes.DataLoss {
		c.slow.log(slog.LevelError, "request failed", "op", m.op, "code", code.String(), "key", keyPrefix(req), "error", errText(err))
	}
	c.endAudit(ctx, m, entry, req, code, err)
	c.logAccess(ctx, m, begin, took, req, response, code)
	if c.opts.SlowThreshold > 0 && took >= c.opts.SlowThreshold && !m.streaming {
		c.slow.warn("slow request", append(phases(kv.TraceOf(ctx), "op", m.op, "code", code.String(), "took", took),
			"key", keyPrefix(req), "request_bytes", size(req), "response_bytes", size(response))...)
	}
}

// phases appends the phases in which a request spent time.
func phases(t *kv.Trace, to ...any) []any {
	for _, p := range kv.Phases() {
		if spent := t.Part(p).Took; spent > 0 {
			to = append(to, p.String(), spent)
		}
	}
	return to
}

const (
	// linesPerSecond is the rate limit of each kind of line that clients can cause, and
	// linesAtOnce its burst.
	linesPerSecond = 10
	linesAtOnce    = 50
)

// slowLog logs what clients can cause, at a limited rate, so that the log does not fill
// the disk. The next line of the same kind says how many were omitted.
type slowLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	kinds  map[string]*lineKind
}

type lineKind struct {
	limit   *rate.Limiter
	omitted int
}

func newSlowLog(l *slog.Logger) *slowLog {
	return &slowLog{logger: l, kinds: make(map[string]*lineKind)}
}

func (l *slowLog) warn(msg string, args ...any) { l.log(slog.LevelWarn, msg, args...) }

// log logs a line; its message, which is a constant, is its kind.
func (l *slowLog) log(level slog.Level, msg string, args ...any) {
	omitted, due := l.due(msg)
	if !due {
		return
	}
	if omitted > 0 {
		args = append(args, "omitted", omitted)
	}
	l.logger.Log(context.Background(), level, msg, args...)
}

func (l *slowLog) due(msg string) (omitted int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[msg]
	if k == nil {
		k = &lineKind{limit: rate.NewLimiter(linesPerSecond, linesAtOnce)}
		l.kinds[msg] = k
	}
	if !k.limit.Allow() {
		k.omitted++
		return 0, false
	}
	omitted, k.omitted = k.omitted, 0
	return omitted, true
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return short(status.Convert(err).Message()) // the code has a field of its own
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

const (
	// loggedKey is how much of a key may appear in a log.
	loggedKey = 16
	// maxText bounds a text that a client sent, in errors and logs; keptEnd is how much of
	// its end is kept, which tells the outcome.
	maxText = 2 << 10
	keptEnd = 256
)

// brief describes a request in a line of a log.
func brief(req any) string {
	if n := size(req); n > maxText {
		return fmt.Sprintf("%s of %d bytes", req.(pb.Message).ProtoReflect().Descriptor().Name(), n)
	}
	return short(fmt.Sprint(req))
}

// short leaves the middle out of a text that is too long.
func short(text string) string {
	if len(text) <= maxText {
		return text
	}
	head, tail := text[:maxText-keptEnd], text[len(text)-keptEnd:]
	for len(head) > 0 && !utf8.RuneStart(text[len(head)]) {
		head = head[:len(head)-1]
	}
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	out := fmt.Sprintf("%s ... (%d bytes left out) ... %s", head, len(text)-len(head)-len(tail), tail)
	return strings.ToValidUTF8(out, "?")
}
