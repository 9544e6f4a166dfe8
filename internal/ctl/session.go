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
	out    *output.Printer
	stdin  io.Reader
	stderr io.Writer
	env    func(string) (string, bool) // os.LookupEnv, or a test's
}

func newSession(o *options.Options, out *output.Printer, stdin io.Reader, stderr io.Writer, env func(string) (string, bool)) (*session, error) {
	client, err := nodes.NewClient(o)
	if err != nil {
		return nil, err
	}
	return &session{Client: client, out: out, stdin: stdin, stderr: stderr, env: env}, nil
}

// to returns a session with the same options for these addresses alone. It has
// connections of its own, which the caller closes.
func (s *session) to(addrs ...string) *session {
	return &session{Client: s.Client.To(addrs...), out: s.out, stdin: s.stdin, stderr: s.stderr, env: s.env}
}
