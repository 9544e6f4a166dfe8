// Benchsmoke fails if an operation of the hot paths allocates more often than
// tools/benchsmoke/allowed.txt says. Times vary with the machine and its load; the number
// of allocations does not, and it is where hot paths grow slower unnoticed. "make
// bench-smoke" runs it.
package main

import (
	"bufio"
	"bytes"
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
	"strconv"
	"strings"
)

const (
	// operations is how many each benchmark makes: enough that what runs beside them, such
	// as heartbeats, does not count.
	operations = 4000
	// attempts is how often a benchmark that allocates too much is run. On a busy machine
	// requests are spread over more messages, which costs some allocations more.
	attempts = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchsmoke:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("benchsmoke", flag.ContinueOnError)
	path := flags.String("allowed", "tools/benchsmoke/allowed.txt", "table of allowed allocations")
	update := flags.Bool("update", false, "write what is measured into the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	rows, err := parseTable(text)
	if err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	programs, err := os.MkdirTemp("", "benchsmoke")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	tooMany := 0
	for _, r := range rows {
		got, err := measure(ctx, programs, r, *update)
		if err != nil {
			return err
		}
		verdict := r.verdict(got)
		if *update {
			r.allowed, verdict = got, "noted"
		}
		if verdict == exceeded {
			tooMany++
		}
		fmt.Fprintf(out, "%-22s %-42s %4d allocations an operation, %4d allowed: %s\n", r.pkg, r.benchmark, got, r.limit(), verdict)
	}
	if *update {
		return os.WriteFile(*path, formatTable(text, rows), 0o644)
	}
	if tooMany > 0 {
		return fmt.Errorf("%d of %d hot paths allocate more than before; find where with go test -bench NAME -memprofile, or raise the table with -update and say why in the commit", tooMany, len(rows))
	}
	return nil
}

// row is one line of the table.
type row struct {
	pkg, benchmark string
	allowed        int
}

// limit is what is allowed with some slack: 3 %, and at least 2, for what the load of the
// machine and releases of Go change.
func (r *row) limit() int { return r.allowed + max(2, r.allowed*3/100) }

// exceeded is the verdict on a hot path that allocates too much.
const exceeded = "TOO MANY"

func (r *row) verdict(got int) string {
	slack := r.limit() - r.allowed
	switch {
	case got > r.allowed+slack:
		return exceeded
	case got < r.allowed-slack:
		return "fewer: lower the table with -update"
	default:
		return "ok"
	}
}

// parseTable reads lines of package, benchmark and number. # begins a comment.
func parseTable(text []byte) ([]*row, error) {
	var rows []*row
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: want package, benchmark and allocations, not %q", n, line)
		}
		allowed, err := strconv.Atoi(f[2])
		if err != nil || allowed < 0 {
			return nil, fmt.Errorf("line %d: %q is no number of allocations", n, f[2])
		}
		rows = append(rows, &row{f[0], f[1], allowed})
	}
	if len(rows) == 0 {
		return nil, errors.New("the table is empty")
	}
	return rows, lines.Err()
}

// formatTable replaces the rows of the table, and keeps its comment.
func formatTable(text []byte, rows []*row) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("#")) {
			b.Write(line)
		}
	}
	for _, r := range rows {
		fmt.Fprintf(&b, "%-20s %-40s %d\n", r.pkg, r.benchmark, r.allowed)
	}
	return b.Bytes()
}

// measure returns the allocations of an operation: the least of several runs if the first
// one has too many.
func measure(ctx context.Context, programs string, r *row, once bool) (int, error) {
	program, err := compile(ctx, programs, r.pkg)
	if err != nil {
		return 0, err
	}
	least := -1
	for range attempts {
		got, err := runBenchmark(ctx, program, r)
		if err != nil {
			return 0, err
		}
		if least < 0 || got < least {
			least = got
		}
		if once || least <= r.limit() {
			break
		}
	}
	return least, nil
}

// compile builds a package's tests, unless they were built before.
func compile(ctx context.Context, programs, pkg string) (string, error) {
	program := filepath.Join(programs, strings.ReplaceAll(pkg, "/", "_")+".test")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s -w", "-o", program, pkg)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the benchmarks of %s: %w\n%s", pkg, err, text)
	}
	return program, nil
}

func runBenchmark(ctx context.Context, program string, r *row) (int, error) {
	var parts []string
	for part := range strings.SplitSeq(r.benchmark, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", strings.Join(parts, "/"),
		"-test.benchmem", "-test.benchtime", fmt.Sprintf("%dx", operations))
	cmd.Dir = r.pkg
	text, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s of %s failed: %w\n%s", r.benchmark, r.pkg, err, text)
	}
	got, err := parseOutput(text)
	if err != nil {
		return 0, fmt.Errorf("%s of %s: %w\n%s", r.benchmark, r.pkg, err, text)
	}
	return got, nil
}

var allocations = regexp.MustCompile(`(?m)^Benchmark\S+\s.*\s(\d+) allocs/op$`)

// parseOutput finds the result of the one benchmark that ran.
func parseOutput(text []byte) (int, error) {
	found := allocations.FindAllSubmatch(text, -1)
	if len(found) != 1 {
		return 0, fmt.Errorf("want the result of one benchmark, not of %d", len(found))
	}
	return strconv.Atoi(string(found[0][1]))
}
