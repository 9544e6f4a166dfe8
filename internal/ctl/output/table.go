package output

import (
	"io"
	"strings"
	"text/tabwriter"
)

// WriteColumns prints rows with their columns aligned, and what is not Printable escaped.
func WriteColumns(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		// Every cell but the last is ended by a tab, so that none is padded at
		// the end of the line.
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Printable(cell)
		}
		if _, err := io.WriteString(tw, strings.Join(cells, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// WriteTable prints items as aligned columns or as one JSON document each.
func WriteTable[T any](p *Printer, items []T, columns func(T) []string, members func(*Object, T)) error {
	if p.JSON {
		for _, item := range items {
			if err := p.Document(func(o *Object) { members(o, item) }); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, len(items))
	for i, item := range items {
		rows[i] = columns(item)
	}
	return WriteColumns(p.W, rows)
}
