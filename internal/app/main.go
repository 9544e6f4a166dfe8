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
	"sync"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/recovery"
	"github.com/dkvdb/dkv/internal/app/restoration"
	"github.com/dkvdb/dkv/internal/app/signals"
	"github.com/dkvdb/dkv/internal/app/succession"
	"github.com/dkvdb/dkv/internal/app/systemd"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/version"
)

// Process is what the operating system gives a program.
type Process struct {
	// Args are the arguments without the program's name, Env as os.Environ.
	Args, Env      []string
	Stdout, Stderr io.Writer
	// WrapEngine, if it is not nil, wraps each storage engine that the node writes to.
	// Tests inject faults with it: no flag, file or variable sets it.
	WrapEngine func(storage.Engine) storage.Engine
	// Wall returns the machine's time; nil means time.Now. Only tests set it, too.
	Wall func() time.Time
}

// The exit codes of dkvsrv.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// Main runs dkvsrv until ctx ends or a signal comes, and returns its exit code.
func Main(ctx context.Context, p Process) int {
	// First of all: a signal that comes while files are being opened must not end the
	// process in the middle of that.
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
		if err := node.CheckStart(inv.Config); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
	}
	if inv.Action == config.Recover {
		if err := recoverFolder(inv, p); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
		return exitOK
	}
	if inv.Action == config.RestoreFrom {
		if err := restore(ctx, inv, p); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
		return exitOK
	}
	if inv.Action != config.Run {
		if err := inv.Render(p.Stdout, version.Get().String()); err != nil {
			fmt.Fprintln(p.Stderr, "dkvsrv:", err)
			return exitError
		}
		return exitOK
	}
	p.Stderr = telemetry.NewPatient(p.Stderr) // also for why it ends: a supervisor waits for that
	if err := run(ctx, inv, p); err != nil {
		fmt.Fprintln(p.Stderr, "dkvsrv:", err)
		return exitError
	}
	return exitOK
}

// recoverFolder runs dkvsrv recover.
func recoverFolder(inv *config.Invocation, p Process) error {
	return recovery.Run(inv.Config, inv.Confirm, inv.Typed(), offlineLog(inv, p), p.Stdout)
}

// restore runs dkvsrv --restore-from.
func restore(ctx context.Context, inv *config.Invocation, p Process) error {
	if err := node.CheckStart(inv.Config); err != nil {
		return err
	}
	return restoration.Run(ctx, inv.Config, inv.Restore, offlineLog(inv, p), p.Stdout)
}

// offlineLog is the log of what does not serve, with only what an operator has to see.
func offlineLog(inv *config.Invocation, p Process) *slog.Logger {
	return telemetry.NewLogger(telemetry.LogOptions{Writer: p.Stderr, Level: max(inv.Config.LogLevel(), slog.LevelWarn)})
}

// startGrace is how long a start that is told to stop is waited for.
const startGrace = 500 * time.Millisecond

// recentEvents is how many events of the log are kept in memory, for GET /admin/log: a few
// hundred bytes each.
const recentEvents = 2000

// run runs a node until ctx ends. If ctx ends during the start, the start may be inside an
// engine that replays its log and cannot be interrupted: then run returns without it. The
// process ends there as if it was killed, which loses nothing.
func run(ctx context.Context, inv *config.Invocation, p Process) error {
	signals.IgnorePipes()
	level := new(telemetry.Levels)
	level.Set(inv.Config.LogLevel())
	log := telemetry.NewLogger(telemetry.LogOptions{
		Writer: p.Stderr,
		JSON:   inv.Config.Log.Format == config.LogJSON,
		Level:  level,
		Node:   inv.Config.Node.Name,
		Recent: telemetry.NewRecent(recentEvents),
	})
	ended, opened := make(chan error, 1), make(chan struct{})
	go func() { ended <- runNode(ctx, inv, p, level, log, sync.OnceFunc(func() { close(opened) })) }()
	select {
	case err := <-ended:
		return err
	case <-opened:
		return <-ended
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-opened:
		return <-ended
	case <-time.After(startGrace):
		log.Info("stopped while it was starting")
		return nil
	}
}

// runNode runs a node and calls opened when all of it is open. If a promotion changes what
// the node is, all of it is closed and opened again, at the same addresses.
func runNode(ctx context.Context, inv *config.Invocation, p Process, level *telemetry.Levels, log *slog.Logger, opened func()) error {
	warnOfCores(log, keepPrivate())
	started := make(chan struct{})
	onStarted := sync.OnceFunc(func() { close(started) })
	defer tuneCollector(inv.Config, started)()
	configured := inv.Config
	for {
		cfg, part, err := succession.Prepare(ctx, configured, log)
		if err != nil {
			return err
		}
		a, err := newApp(ctx, cfg, part, log, p)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err // Main prints it as one line, without a log around it
		}
		a.onStarted = onStarted
		if a.onOpened = opened; a.opened.Load() {
			opened()
		}
		configured = configured.At(a.node.GRPC.Addr(), a.node.HTTP.Addr())
		logStart(log, cfg, a.node.Became)
		systemd.Ready(ctx, p.Env, log)
		if ctx.Err() == nil {
			err = a.run(ctx, func(ctx context.Context) error { return handleSignals(ctx, inv, level, a.node) })
		}
		became := promotion.Becomes(err)
		if became {
			log.Info(err.Error())
			err = nil
		}
		// What was acknowledged is durable by now; an error of closing is still worth an
		// exit code.
		if err = errors.Join(err, a.node.Close()); err != nil {
			return err
		}
		if !became || ctx.Err() != nil {
			log.Info("stopped")
			return nil
		}
	}
}

// handleSignals handles the signals that do not stop a running node, until ctx ends.
func handleSignals(ctx context.Context, inv *config.Invocation, level *telemetry.Levels, n *node.Node) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals.Hangups():
			reloadLog(inv, level, n.Log)
			n.Reload()
		case s := <-signals.Unused():
			n.Log.Warn("this signal means nothing to dkvsrv: SIGHUP reloads the configuration, SIGTERM stops it", "signal", s.String())
		}
	}
}

// logStart logs what the user should know about the configuration.
func logStart(log *slog.Logger, cfg *config.Config, became string) {
	log.Info("dkvsrv starts", "version", version.Get().String(), "role", string(cfg.Role),
		"engine", string(cfg.Storage.Engine), "config", cfg.File())
	if became != "" {
		log.Warn(became, "configured-role", string(cfg.ConfiguredRole()))
	}
	for _, notice := range cfg.Notices() {
		log.Warn(notice)
	}
}

// reloadLog handles SIGHUP: it applies the log level of the configuration as it is now.
func reloadLog(inv *config.Invocation, level *telemetry.Levels, log *slog.Logger) {
	next, err := inv.Reload()
	if err != nil {
		log.Error("reload: the configuration is not valid; the old one stays", "error", err)
		return
	}
	level.Reset(next.LogLevel())
	log.Info("reloaded", "log-level", next.LogLevel().String())
	for _, key := range inv.Config.RestartNeeded(next) {
		log.Warn("reload: this key has changed and takes effect at the next start", "key", key)
	}
}
