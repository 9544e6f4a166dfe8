package ctl

import (
	"context"
	"runtime"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/completion"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/version"
)

func runHelp(_ context.Context, s *session, args []string) error {
	text, err := options.Help(args)
	if err != nil {
		return err
	}
	_, err = s.out.W.WriteString(text)
	return err
}

func runVersion(_ context.Context, s *session, _ []string) error {
	info := version.Get()
	if !s.out.JSON {
		return s.out.Line("dkvctl ", info.String(), " ", runtime.GOOS, "/", runtime.GOARCH)
	}
	return s.out.Document(func(o *output.Object) {
		o.Str("version", info.Version)
		o.Str("revision", info.Revision)
		o.Str("go_version", info.GoVersion)
	})
}

func runCompletion(_ context.Context, s *session, args []string) error {
	script, err := completion.Script(strings.ToLower(args[0]))
	if err != nil {
		return err
	}
	_, err = s.out.W.WriteString(script)
	return err
}

// runCandidates prints the answer to a script of -completion: what kind of words there are,
// then one a line, with a tab before its description.
func runCandidates(_ context.Context, s *session, args []string) error {
	found := completion.Find(args, s.env)
	if err := s.out.Line(found.Kind.String()); err != nil {
		return err
	}
	for _, c := range found.Candidates {
		if err := s.out.Raw([]byte(c.Word), []byte("\t"), []byte(c.Summary)); err != nil {
			return err
		}
	}
	return nil
}
