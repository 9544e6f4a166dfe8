package ctl

import (
	"context"
	"runtime"

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
