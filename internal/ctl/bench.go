package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/kv"
)

// Defaults of -bench that depend on other options.
const (
	maxDefaultConnections = 8
	ledgerKeySize         = 32
)

func runBench(ctx context.Context, s *session, args []string) error {
	if len(args) == 1 && strings.EqualFold(args[0], "check") {
		return s.checkLedger(ctx)
	}
	cfg, err := s.benchConfig(args)
	if err != nil {
		return err
	}
	return s.measure(ctx, cfg)
}

// benchConfig completes the configuration by what depends on the operation.
func (s *session) benchConfig(args []string) (bench.Config, error) {
	cfg := s.Options.Bench
	if len(args) == 1 {
		op, err := bench.ParseOperation(args[0])
		if err != nil {
			return cfg, options.Usagef("%v, check", err)
		}
		cfg.Operation = op
	}
	cfg.Timeout = s.Timeout
	cfg.Linearizable = s.Level == kv.Linearizable
	cfg.Preload = cfg.Operation.Reads()
	if s.Preload != nil {
		cfg.Preload = *s.Preload
	}
	if s.Given["count"] && !s.Given["duration"] {
		cfg.Duration = 0
	}
	if s.Ledger != "" && !s.Given["keySize"] {
		cfg.KeySize = ledgerKeySize
	}
	if s.Ledger != "" && !s.Given["warmup"] {
		cfg.Warmup = 0 // so that the ledger holds what the result counts
	}
	if s.Ledger != "" && s.Reference != "" {
		return cfg, options.Usagef("-ledger and -ref do not go together: a ledger belongs to one database")
	}
	if s.Ledger != "" && cfg.Operation != bench.Put {
		return cfg, options.Usagef("-ledger needs the operation put or check")
	}
	if err := cfg.Validate(); err != nil {
		return cfg, options.Usagef("%v", err)
	}
	return cfg, nil
}

func (s *session) measure(ctx context.Context, cfg bench.Config) (err error) {
	if s.Ledger != "" {
		if cfg.Ledger, err = bench.OpenLedger(s.Ledger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.Ledger.Close()) }()
	}
	target, closeTarget, err := s.benchTarget(ctx, cfg.Workers, s.Addrs)
	if err != nil {
		return err
	}
	defer closeTarget()
	if len(s.PIDs) > 0 {
		if target.Processes, err = procs.Find(s.PIDs); err != nil {
			return fmt.Errorf("%w; -pids takes the ids of the servers' processes on this machine", err)
		}
	}
	progress := bench.Progress{Out: s.stderr, Interval: s.Options.Progress}
	if s.Quiet {
		progress.Interval = 0
	}
	if s.Reference == "" {
		result, err := bench.Run(ctx, cfg, target, progress)
		return s.benchResult(result, err)
	}
	reference, closeReference, err := s.benchTarget(ctx, cfg.Workers, []string{s.Reference})
	if err != nil {
		return err
	}
	defer closeReference()
	c, err := bench.Compare(ctx, cfg, reference, target, s.Rounds, progress)
	if err != nil {
		return err
	}
	if err := s.printBench(c); err != nil {
		return err
	}
	if c.Reference.Throughput.Min == 0 || c.Target.Throughput.Min == 0 {
		return errors.New("in some round no operation succeeded")
	}
	return nil
}

// benchTarget makes connections to the addresses, in turn. All addresses must answer:
// a load generator that silently left one out would measure something else.
func (s *session) benchTarget(ctx context.Context, workers int, addrs []string) (bench.Target, func(), error) {
	n := s.Connections
	if n == 0 {
		n = max(min(workers, maxDefaultConnections), len(addrs))
	}
	target := bench.Target{Name: strings.Join(addrs, ",")}
	var closers []func()
	closeAll := func() {
		for _, closeConn := range closers {
			closeConn()
		}
	}
	dialCtx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	for i := range n {
		conn, closeConn, err := s.Open(dialCtx, addrs[i%len(addrs)])
		if err != nil {
			closeAll()
			return target, nil, err
		}
		closers = append(closers, closeConn)
		target.Conns = append(target.Conns, conn)
	}
	return target, closeAll, nil
}

// benchResult prints what was measured, even if the run ended early.
func (s *session) benchResult(result *bench.Result, err error) error {
	if result == nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted before anything was measured")
	}
	if result == nil {
		return err
	}
	if printErr := s.printBench(result); printErr != nil {
		return printErr
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted: the result covers only a part of the run")
	}
	if err == nil && result.Operations == 0 {
		return errors.New("no operation succeeded")
	}
	return err
}

// report is a result of the load generator, which prints itself.
type report interface {
	WriteText(io.Writer) error
}

func (s *session) printBench(r report) error {
	if s.out.JSON {
		return s.out.Value(r)
	}
	return r.WriteText(s.out.W)
}

func (s *session) checkLedger(ctx context.Context) error {
	if s.Ledger == "" {
		return options.Usagef("-bench check needs -ledger FILE")
	}
	workers := min(s.Options.Bench.Workers, maxDefaultConnections)
	target, closeTarget, err := s.benchTarget(ctx, workers, s.Addrs)
	if err != nil {
		return err
	}
	defer closeTarget()
	result, err := bench.Check(ctx, s.Ledger, target, workers, s.Timeout)
	if err != nil {
		return err
	}
	if s.out.JSON {
		err = s.out.Value(result)
	} else {
		err = s.out.Line(fmt.Sprintf("%d acknowledged, %d lost", result.Acknowledged, result.Lost))
	}
	if err == nil && result.Lost > 0 {
		return fmt.Errorf("acknowledged writes were lost, such as %s", strings.Join(result.Examples, ", "))
	}
	return err
}
