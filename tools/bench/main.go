//go:build linux

// Bench measures DKV beside etcd and a bare gRPC echo, all on this machine, and writes
// docs/BENCHMARKS.md. It starts the programs, loads them in turn, and stops them. "make
// bench" builds what it needs and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/tools/bench/machine"
	"github.com/dkvdb/dkv/tools/bench/report"
	"github.com/dkvdb/dkv/tools/bench/table"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once, and with it the programs that it started.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	programs  string // folder of dkvsrv
	refserver string
	etcd      string
	dir       string
	document  string
	chart     string
	rows      string
	rounds    int
	seconds   float64
	keys      uint64
	failovers int
	resume    bool
	only      bool
}

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.programs, "bin", "bin", "folder of dkvsrv")
	f.StringVar(&o.refserver, "refserver", "build/bench/refserver", "program of tools/refserver")
	f.StringVar(&o.etcd, "etcd", "", "etcd's program; empty means the one on PATH, none leaves etcd out")
	f.StringVar(&o.dir, "dir", "build/bench", "folder for data and results; it should be on the disk that is to be measured")
	f.StringVar(&o.document, "o", "docs/BENCHMARKS.md", "document whose section between the marks is written")
	f.StringVar(&o.chart, "chart", "docs/benchmarks.svg", "chart that is written")
	f.StringVar(&o.rows, "rows", "", "expression that chooses rows by their id; empty means all")
	f.IntVar(&o.rounds, "rounds", 3, "rounds")
	f.Float64Var(&o.seconds, "seconds", 4, "how long each row is measured on each system in each round")
	f.Uint64Var(&o.keys, "keys", 100_000, "number of keys")
	f.IntVar(&o.failovers, "failovers", 20, "how often the leader is killed")
	f.BoolVar(&o.resume, "resume", false, "continue an interrupted run of the same build")
	f.BoolVar(&o.only, "report", false, "measure nothing: write the document again from the results")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag; -h lists them", f.Arg(0))
	case o.rounds < 1 || o.seconds <= 0 || o.keys < 1 || o.failovers < 0:
		return nil, errors.New("-rounds, -seconds and -keys must be more than 0, and -failovers not negative")
	}
	return o, o.absolute()
}

// absolute makes paths hold in any folder, since programs are run in other ones.
func (o *options) absolute() error {
	if o.etcd == "" {
		o.etcd, _ = exec.LookPath("etcd") // without one it is left out
	} else if o.etcd == "none" {
		o.etcd = ""
	}
	for _, path := range []*string{&o.programs, &o.refserver, &o.dir, &o.etcd} {
		if *path == "" {
			continue
		}
		full, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = full
	}
	return nil
}

// warmup is how long each load runs before it is measured.
const warmup = time.Second

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	chosen, err := regexp.Compile(o.rows)
	if err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	path := filepath.Join(o.dir, "results.jsonl")
	if o.only {
		results, err := table.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(report.Write(results, o.document, o.chart), results.Close())
	}
	results, err := o.open(ctx, path)
	if err != nil {
		return err
	}
	r := &runner{options: o, chosen: chosen, results: results, out: out}
	err = errors.Join(r.all(ctx), results.Close())
	if ctx.Err() != nil {
		// A terminal interrupts the programs as well, so that err may say that they ended.
		return errors.New("interrupted; what was measured is kept, and -resume continues")
	}
	if err != nil {
		return err
	}
	if err := report.Write(results, o.document, o.chart); err != nil {
		return err
	}
	fmt.Fprintf(out, "written: %s, %s; the results are in %s\n", o.document, o.chart, path)
	return nil
}

// open begins a file of results, or continues one.
func (o *options) open(ctx context.Context, path string) (*table.Results, error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	s := table.Settings{Rounds: o.rounds, Seconds: o.seconds, Warmup: warmup.Seconds(), Keys: o.keys, Failovers: o.failovers,
		Rows: o.rows, Machine: machine.Describe(o.dir), Date: time.Now().Format(time.DateOnly)}
	for _, p := range []struct {
		path string
		into *string
	}{{filepath.Join(o.programs, "dkvsrv"), &s.DKV}, {o.etcd, &s.Etcd}} {
		if p.path == "" {
			continue
		}
		said, err := exec.CommandContext(ctx, p.path, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("cannot ask %s for its version: %w", p.path, err)
		}
		if *p.into, err = machine.Program(p.path, string(said)); err != nil {
			return nil, err
		}
	}
	if !o.resume {
		return table.Create(path, s)
	}
	results, err := table.Open(path)
	if err != nil {
		return nil, err
	}
	return results, results.Resumable(s)
}
