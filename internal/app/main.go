// Package app is the composition root of dkvsrv: it turns a configuration into
// components, runs them as one group, and stops them in order.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/version"
)

// Process is what a program has from the operating system.
type Process struct {
	// Args are the arguments without the program's name, Env as os.Environ.
	Args, Env      []string
	Stdout, Stderr io.Writer
	// WrapEngine, if there is one, wraps each storage engine that the node writes
	// to. It is how tests build faults in: no flag, file or variable sets it.
	WrapEngine func(storage.Engine) storage.Engine
}

// The exit codes of dkvsrv.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Main runs dkvsrv until ctx ends or a signal comes, and returns its exit code.
func Main(ctx context.Context, p Process) int {
	// First of all: a signal that comes while things are being opened must not
	// end the process in the middle of it.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	inv, err := config.Load(p.Args, p.Env)
	if err != nil {
		fmt.Fprintln(p.Stderr, "dkvsrv:", err)
		var usage *config.UsageError
		if errors.As(err, &usage) {
			return exitUsage
		}
		return exitError
	}
	if inv.Action == config.CheckConfig {
		if err := checkStart(inv.Config); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
	}
	if inv.Action != config.Run {
		if err := inv.Render(p.Stdout, version.Get().String()); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
		return exitOK
	}
	if err := run(ctx, inv, p); err != nil {
		fmt.Fprintln(p.Stderr, "dkvsrv:", err)
		return exitError
	}
	return exitOK
}

func run(ctx context.Context, inv *config.Invocation, p Process) error {
	cfg := inv.Config
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel())
	log := telemetry.NewLogger(telemetry.LogOptions{
		Writer: p.Stderr,
		JSON:   cfg.Log.Format == config.LogJSON,
		Level:  level,
		Node:   cfg.Node.Name,
	})
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	defer tuneCollector(cfg)()
	n, err := newNode(ctx, cfg, log, p.WrapEngine)
	if err != nil {
		return err // one line, which a log would only bury
	}
	logStart(log, cfg)
	reload := func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangups:
				reloadLog(inv, level, log)
			}
		}
	}
	err = n.run(ctx, reload)
	// What was acknowledged is durable by now; that not all could be closed
	// cleanly is still worth an exit code.
	if err = errors.Join(err, n.close()); err == nil {
		log.Info("stopped")
	}
	return err
}

// logStart says what the user should know about the configuration.
func logStart(log *slog.Logger, cfg *config.Config) {
	log.Info("dkvsrv starts", "version", version.Get().String(), "role", string(cfg.Role),
		"engine", string(cfg.Storage.Engine), "config", cfg.File())
	for _, notice := range cfg.Notices() {
		log.Warn(notice)
	}
}

// reloadLog does what SIGHUP asks for.
func reloadLog(inv *config.Invocation, level *slog.LevelVar, log *slog.Logger) {
	next, err := inv.Reload()
	if err != nil {
		log.Error("reload: the configuration is not valid; the old one stays", "error", err)
		return
	}
	level.Set(next.LogLevel())
	log.Info("reloaded", "log-level", next.LogLevel().String())
	for _, key := range inv.Config.RestartNeeded(next) {
		log.Warn("reload: this key has changed and takes effect at the next start", "key", key)
	}
}
