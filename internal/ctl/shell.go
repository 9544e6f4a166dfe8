package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/ctl/shell"
)

// runShell reads command lines and runs each with the options of its own.
func runShell(ctx context.Context, s *session, _ []string) error {
	sh := &shell.Shell{Env: s.env, Errors: s.stderr, Prompt: "dkv " + strings.Join(s.Addrs, ",") + "> ",
		Keys: func(prefix string) []string { return s.someKeys(ctx, prefix) },
		Run:  s.runLine,
	}
	in, out := s.screen(s.stdin), s.screen(s.stdout)
	if in == nil || out == nil {
		failed, err := sh.FromPipe(ctx, s.stdin)
		if failed > 0 && err == nil {
			err = fmt.Errorf("lines that failed: %d", failed)
		}
		return err
	}
	var err error
	if sh.History, err = shell.OpenHistory(s.historyPath()); err != nil {
		fmt.Fprintln(s.stderr, output.OneLine("the history cannot be kept: "+err.Error()))
	}
	if err := s.out.Line("help lists the commands, Tab completes, exit or Ctrl-D ends"); err != nil {
		return err
	}
	if err := s.out.W.Flush(); err != nil {
		return err
	}
	return sh.OnTerminal(ctx, in, out)
}

// historyPath is the file of the history; empty for none. DKVCTL_HISTORY names another one,
// and none if it is empty.
func (s *session) historyPath() string {
	if path, set := s.env("DKVCTL_HISTORY"); set {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".dkvctl_history")
}

// errNested is the error of commands that need the terminal or the input that the shell has.
var errNested = errors.New("this needs the terminal or the input for itself: run it outside of -shell")

// runLine runs a line of -shell, with the options that -shell was given before its own.
func (s *session) runLine(ctx context.Context, words []string) bool {
	words = slices.Concat(s.given, words)
	inv, err := options.Parse(words)
	if err == nil {
		switch {
		case inv.Command.Name == "shell", inv.Command.Name == "top" && inv.Options.Frames == 0, inv.Options.FromStdin:
			err = errNested
		default:
			err = run(ctx, words, s.out.W, s.streams)
		}
	}
	if flushErr := s.out.W.Flush(); flushErr != nil && err == nil {
		err = flushErr
	}
	if err != nil {
		fmt.Fprintln(s.stderr, output.OneLine(err.Error()))
	}
	return err == nil
}

const (
	completedKeys = 50
	// completionTime is how long Tab waits for keys.
	completionTime = time.Second
)

// someKeys returns keys that begin with a prefix, as the asked node has them; none if it does
// not answer.
func (s *session) someKeys(ctx context.Context, prefix string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completionTime)
	defer cancel()
	var found []string
	_ = s.Call(ctx, nodes.Reads, func(ctx context.Context, conn grpc.ClientConnInterface) error { // Tab then does nothing
		found = nil
		stream, err := serverpb.NewDKVClient(conn).Iterate(ctx, &serverpb.IterateRequest{KeyPrefix: []byte(prefix), KeysOnly: true, Batched: true,
			Limit: completedKeys, ReadConsistency: serverpb.ReadConsistency_SEQUENTIAL})
		for err == nil {
			var res *serverpb.IterateResponse
			if res, err = stream.Recv(); err == nil {
				for _, p := range res.GetPairs() {
					found = append(found, string(p.GetKey()))
				}
			}
		}
		return nil
	})
	return found
}
