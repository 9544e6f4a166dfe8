package ctl

import (
	"io"
	"strings"
	"text/tabwriter"
)

// writeColumns prints rows with their columns aligned.
func writeColumns(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		// Every cell but the last is ended by a tab, so that none is padded at
		// the end of the line.
		if _, err := io.WriteString(tw, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// writeTable prints items as aligned columns or as one JSON document each.
func writeTable[T any](p *printer, items []T, columns func(T) []string, members func(*object, T)) error {
	if p.json {
		for _, item := range items {
			if err := p.document(func(o *object) { members(o, item) }); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = columns(item)
	}
	return writeColumns(p.w, rows)
}
