package ctl

import (
	"io"

	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// session is what a command works with: the nodes to call, with its options, and
// where results go. It is for one request at a time.
type session struct {
	*nodes.Client
	given []string // the options, as words of a command line
	out   *output.Printer
	streams
}

// streams are what a run of dkvctl reads and writes besides its results.
type streams struct {
	stdin  io.Reader
	stdout io.Writer // below the results' buffer: to know whether it is a terminal
	stderr io.Writer
	env    func(string) (string, bool) // os.LookupEnv, or a test's
}

func newSession(o *options.Options, out *output.Printer, with streams) (*session, error) {
	client, err := nodes.NewClient(o)
	if err != nil {
		return nil, err
	}
	return &session{Client: client, out: out, streams: with}, nil
}

// to returns a session with the same options for these addresses alone. It has
// connections of its own, which the caller closes.
func (s *session) to(addrs ...string) *session {
	return &session{Client: s.Client.To(addrs...), out: s.out, streams: s.streams}
}
