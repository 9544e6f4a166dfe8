package audit

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/dkvdb/dkv/internal/logfile"
)

// maxText bounds each text of a line, in bytes: callers choose names, keys and paths.
const maxText = 1 << 10

// line is a line of the log.
type line struct {
	Call
	phase      string // "begin" or "end" of a call with two lines
	code, err  string
	suppressed int // lines of the host that were left out before this one
}

// encode returns the line as JSON, with its end.
func (n *line) encode(now time.Time, o *Options) []byte {
	out, err := json.Marshal(struct {
		Time       string `json:"time"`
		Node       string `json:"node,omitempty"`
		Database   string `json:"database,omitempty"`
		Identity   Caller `json:"identity"`
		Address    string `json:"address"`
		Op         string `json:"op"`
		What       string `json:"what,omitempty"`
		Phase      string `json:"phase,omitempty"`
		Code       string `json:"code,omitempty"`
		Error      string `json:"error,omitempty"`
		Suppressed int    `json:"suppressed,omitempty"`
	}{
		now.UTC().Format(time.RFC3339Nano), o.Node, o.Database,
		Caller{Name: short(n.Caller.Name), Kind: short(n.Caller.Kind), Credential: short(n.Caller.Credential), Via: short(n.Caller.Via)},
		short(n.Address), short(n.Op), short(n.What), n.phase, n.code, short(n.err), n.suppressed,
	})
	if err != nil { // strings and numbers always encode
		panic(fmt.Sprintf("audit: encode a line: %v", err))
	}
	return append(out, '\n')
}

// attrs returns the line for the common log.
func (n *line) attrs() (out []slog.Attr) {
	text := func(key, value string) {
		if value != "" {
			out = append(out, slog.String(key, short(value)))
		}
	}
	text("op", n.Op)
	text("address", n.Address)
	text("identity", n.Caller.Name)
	text("kind", n.Caller.Kind)
	text("credential", n.Caller.Credential)
	text("via", n.Caller.Via)
	text("what", n.What)
	text("phase", n.phase)
	text("code", n.code)
	text("error", n.err)
	if n.suppressed > 0 {
		out = append(out, slog.Int("suppressed", n.suppressed))
	}
	return out
}

// short cuts a text that is too long.
func short(text string) string { return logfile.Short(text, maxText) }
