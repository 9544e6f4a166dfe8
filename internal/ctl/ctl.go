// Package ctl runs the commands of dkvctl. Results go to stdout and nothing else does;
// every error is one line on stderr, where the progress of what takes a while shows too.
//
// Package options reads the command line and the environment, nodes calls the nodes
// that these name, output prints results, bench is the load generator of -bench, ca the
// certificate authority of -certs, authfile changes what -token does, completion completes
// words, survey asks nodes for the rows of -status, verify compares their contents, observe
// looks at a whole cluster with its hosts and metrics, drill runs drills, doctor and top show
// what they make of that, and shell is the prompt of -shell.
package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Exit codes of dkvctl.
const (
	exitOK       = 0
	exitFailed   = 1 // the command was understood and failed
	exitUsage    = 2 // the command line was not understood
	exitNotFound = 3 // -get of a key that does not exist
	exitMismatch = 4 // -cas of a key that holds another value
)

// Main runs dkvctl with the arguments after the program's name and returns the exit
// code. It ends early when ctx ends. lookupEnv is os.LookupEnv, or a test's.
func Main(ctx context.Context, args []string, lookupEnv func(string) (string, bool),
	stdin io.Reader, stdout, stderr io.Writer) int {
	out := bufio.NewWriterSize(stdout, 64<<10)
	err := run(ctx, args, out, streams{stdin: stdin, stdout: stdout, stderr: stderr, env: lookupEnv})
	if flushErr := out.Flush(); flushErr != nil && err == nil {
		err = fmt.Errorf("cannot write the result: %w", flushErr)
	}
	if err == nil {
		return exitOK
	}
	text := err.Error()
	if text == context.Canceled.Error() {
		text = "interrupted"
	}
	fmt.Fprintln(stderr, output.OneLine(text))
	return exitCode(err)
}

func run(ctx context.Context, args []string, out *bufio.Writer, with streams) error {
	inv, err := options.Parse(args)
	if err != nil {
		return err
	}
	printer := &output.Printer{W: out, JSON: inv.Options.JSON}
	if inv.Command.Local {
		s := &session{Client: &nodes.Client{Options: inv.Options}, out: printer, streams: with}
		return runners()[inv.Command.Name](ctx, s, inv.Args)
	}
	if err := inv.Options.FromEnvironment(with.env); err != nil {
		return err
	}
	if inv.Options.Timeout == 0 {
		inv.Options.Timeout = inv.Command.Timeout
	}
	s, err := newSession(inv.Options, printer, with)
	if err != nil {
		return err
	}
	defer s.Close()
	s.given = inv.Words
	return runners()[inv.Command.Name](ctx, s, inv.Args)
}

// errKeyNotFound is the result of -get for a key that does not exist.
var errKeyNotFound = errors.New("key not found")

func exitCode(err error) int {
	var usage *options.UsageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errKeyNotFound):
		return exitNotFound
	case errors.Is(err, errNotUpdated):
		return exitMismatch
	default:
		return exitFailed
	}
}
