// Package report presents results: the section of docs/BENCHMARKS.md between two marks, and
// a chart of throughput against latency.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/tools/bench/table"
)

// The marks between which the document is generated.
const (
	beginMark = "<!-- make bench: begin -->\n"
	endMark   = "<!-- make bench: end -->\n"
)

// Write writes the chart, and the results into the document, which must contain the marks.
func Write(r *table.Results, document, chart string) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("cannot read the document: %w", err)
	}
	relative, err := filepath.Rel(filepath.Dir(document), chart)
	if err != nil {
		return err
	}
	text, err := replace(old, section(r, filepath.ToSlash(relative)))
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return errors.Join(os.WriteFile(chart, drawChart(r), 0o644), os.WriteFile(document, text, 0o644))
}

// replace puts text between the marks.
func replace(document []byte, text string) ([]byte, error) {
	before, rest, found := bytes.Cut(document, []byte(beginMark))
	if !found {
		return nil, fmt.Errorf("the line %q is missing", beginMark[:len(beginMark)-1])
	}
	_, after, found := bytes.Cut(rest, []byte(endMark))
	if !found {
		return nil, fmt.Errorf("the line %q is missing", endMark[:len(endMark)-1])
	}
	return bytes.Join([][]byte{before, []byte(beginMark), []byte(text), []byte(endMark), after}, nil), nil
}
