package ctl

import (
	"context"
	"runtime"

	"github.com/dkvdb/dkv/internal/version"
)

func runHelp(_ context.Context, s *session, args []string) error {
	text, err := help(args)
	if err != nil {
		return err
	}
	_, err = s.out.w.WriteString(text)
	return err
}

func runVersion(_ context.Context, s *session, _ []string) error {
	info := version.Get()
	if !s.out.json {
		return s.out.line("dkvctl ", info.String(), " ", runtime.GOOS, "/", runtime.GOARCH)
	}
	return s.out.document(func(o *object) {
		o.str("version", info.Version)
		o.str("revision", info.Revision)
		o.str("go_version", info.GoVersion)
	})
}
