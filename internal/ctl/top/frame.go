package top

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dkvdb/dkv/internal/ctl/doctor"
	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Frame is the cluster at one time.
type Frame struct {
	Time     time.Time        `json:"time"`
	Database string           `json:"database"`
	Wrong    []doctor.Finding `json:"wrong"` // the worst first
	Nodes    []Row            `json:"nodes"`
}

// Row is one node.
type Row struct {
	Name         string  `json:"name"`
	Address      string  `json:"address"`
	Role         string  `json:"role"`
	State        string  `json:"state"` // serving, another state of a vBucket, or DOWN
	Leads        int     `json:"leads"`
	VBuckets     int     `json:"vbuckets"`
	Requests     float64 `json:"requests_per_second"`
	Errors       float64 `json:"errors_per_second"`
	P99Micros    int64   `json:"p99_micros"`
	RatesKnown   bool    `json:"rates_known"`
	Applied      uint64  `json:"applied_index"`
	LagChanges   uint64  `json:"lag_changes"`
	LagMillis    uint64  `json:"lag_millis"`
	DiskFree     uint64  `json:"disk_free_bytes"`
	DiskTotal    uint64  `json:"disk_total_bytes"`
	Version      string  `json:"version"`
	WritesPaused bool    `json:"writes_paused"`
}

// down is the state of a node that does not answer.
const down = "DOWN"

// New makes a frame of two looks at a cluster; before may be nil.
func New(before, now *observe.Cluster) Frame {
	f := Frame{Time: now.At, Wrong: urgent(doctor.Examine(now)), Nodes: []Row{}}
	for _, n := range now.Nodes {
		var was *observe.Node
		var apart time.Duration
		if before != nil {
			apart = now.At.Sub(before.At)
			if i := slices.IndexFunc(before.Nodes, func(o *observe.Node) bool { return o.Address == n.Address }); i >= 0 {
				was = before.Nodes[i]
			}
		}
		f.Nodes = append(f.Nodes, rowOf(n, ratesOf(was, n, apart)))
		if f.Database == "" && n.Role() != observe.Discovery {
			f.Database = n.Status.GetDatabase()
		}
	}
	return f
}

// urgent are the findings about what is wrong now, and not about how the cluster is set up.
func urgent(d doctor.Diagnosis) []doctor.Finding {
	now := []string{"own-view", "lag", "standbys", "disk-room", "promoted"}
	return slices.DeleteFunc(d.Findings, func(f doctor.Finding) bool {
		return f.Severity != doctor.Problem && !slices.Contains(now, f.Check)
	})
}

func rowOf(n *observe.Node, r rates) Row {
	row := Row{Name: n.Status.GetNodeName(), Address: n.Address, Role: n.Role(), State: down, Version: n.Status.GetVersion(),
		Requests: r.Requests, Errors: r.Errors, P99Micros: r.P99.Microseconds(), RatesKnown: r.Known}
	if n.Status == nil {
		row.Name = n.Member.GetNodeName()
		return row
	}
	row.State = "serving"
	for _, v := range n.Status.GetVBuckets() {
		row.VBuckets++
		if v.GetIsLeader() {
			row.Leads++
		}
		if v.GetState() != "" && v.GetState() != "serving" {
			row.State = v.GetState()
		}
		row.Applied += v.GetAppliedIndex()
		row.LagChanges, row.LagMillis = max(row.LagChanges, v.GetLagChanges()), max(row.LagMillis, v.GetLagMillis())
		row.WritesPaused = row.WritesPaused || v.GetWritesPaused()
	}
	if n.Health != nil {
		row.DiskFree, row.DiskTotal = n.Health.Disk.Free, n.Health.Disk.Total
	}
	return row
}

// style is how a line is shown on a terminal that has colours.
type style string

const (
	plain   style = ""
	heading style = "\x1b[1m"
	alarm   style = "\x1b[31m"
	caution style = "\x1b[33m"
	reset         = "\x1b[0m"
)

type line struct {
	text  string
	style style
}

// column is a column of the table of nodes. Those with the highest rank are left out first if
// the terminal is narrow.
type column struct {
	title string
	rank  int
	right bool
	cell  func(Row) string
}

var columns = []column{
	{"NODE", 0, false, func(r Row) string { return first(r.Name, r.Address) }},
	{"ADDRESS", 4, false, func(r Row) string { return r.Address }},
	{"ROLE", 1, false, func(r Row) string { return first(r.Role, "-") }},
	{"STATE", 0, false, func(r Row) string {
		if r.WritesPaused {
			return r.State + ", paused"
		}
		return r.State
	}},
	{"LEADS", 1, true, leads},
	{"REQ/S", 0, true, func(r Row) string { return known(r, short(r.Requests)) }},
	{"ERR/S", 3, true, func(r Row) string { return known(r, short(r.Errors)) }},
	{"P99", 2, true, func(r Row) string { return known(r, duration(time.Duration(r.P99Micros)*time.Microsecond)) }},
	{"LAG", 2, true, lagOf},
	{"DISK FREE", 3, true, disk},
	{"APPLIED", 6, true, func(r Row) string { return fmt.Sprint(r.Applied) }},
	{"VERSION", 5, false, func(r Row) string { return r.Version }},
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func known(r Row, text string) string {
	if !r.RatesKnown {
		return "-"
	}
	return text
}

// leads marks a leader with a star.
func leads(r Row) string {
	switch {
	case r.State == down || r.VBuckets == 0:
		return "-"
	case r.Leads > 0:
		return fmt.Sprintf("*%d/%d", r.Leads, r.VBuckets)
	}
	return fmt.Sprintf("%d/%d", r.Leads, r.VBuckets)
}

func lagOf(r Row) string {
	switch {
	case r.State == down:
		return "-"
	case r.LagChanges == 0 && r.LagMillis < 1000:
		return "0"
	case r.LagMillis == 0:
		return fmt.Sprint(r.LagChanges)
	case r.LagMillis >= uint64((24 * time.Hour).Milliseconds()):
		return fmt.Sprintf("%d/?", r.LagChanges)
	}
	return fmt.Sprintf("%d/%s", r.LagChanges, duration(time.Duration(r.LagMillis)*time.Millisecond))
}

func disk(r Row) string {
	if r.DiskTotal == 0 {
		return "-"
	}
	free, unit := float64(r.DiskFree)/(1<<30), "G"
	if free < 1 {
		free, unit = free*1024, "M"
	}
	return fmt.Sprintf("%.0f%% %.0f%s", 100*float64(r.DiskFree)/float64(r.DiskTotal), free, unit)
}

// short writes a number in at most five places.
func short(f float64) string {
	switch {
	case f >= 1e6:
		return fmt.Sprintf("%.1fM", f/1e6)
	case f >= 1e4:
		return fmt.Sprintf("%.1fk", f/1e3)
	}
	return fmt.Sprintf("%.0f", f)
}

func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dus", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	}
	return d.Round(100 * time.Millisecond).String()
}

// lines lays a frame out for a terminal of so many columns and lines; 0 is no limit.
func (f *Frame) lines(width, height int, live bool) []line {
	title := fmt.Sprintf("dkv %s  %s  %s", first(f.Database, "-"), counts(f.Nodes), f.Time.Format("15:04:05"))
	if live {
		title += "  q: quit"
	}
	out := []line{{title, heading}}
	out = append(out, f.wrong(height)...)
	rows := f.table(width)
	if room := height - len(out); height > 0 && len(rows) > room {
		room = max(room, 2)
		hidden := len(rows) - room + 1
		rows = append(rows[:room-1], line{fmt.Sprintf("... and %d more nodes", hidden), caution})
	}
	out = append(out, rows...)
	for i := range out {
		out[i].text = cut(output.Printable(out[i].text), width)
	}
	return out
}

// wrongMost is how many lines about what is wrong are printed if there is no terminal.
const wrongMost = 20

// wrong are the lines about what is wrong: at most a third of the terminal.
func (f *Frame) wrong(height int) []line {
	if len(f.Wrong) == 0 {
		return []line{{"nothing is wrong", plain}, {}}
	}
	most := wrongMost
	if height > 0 {
		most = max(1, height/3)
	}
	var out []line
	for i, w := range f.Wrong {
		if i == most {
			out = append(out, line{fmt.Sprintf("... and %d more: dkvctl -doctor", len(f.Wrong)-most), caution})
			break
		}
		s, text := caution, w.What
		if w.Severity == doctor.Problem {
			s = alarm
		}
		if w.Node != "" {
			text = w.Node + ": " + text
		}
		out = append(out, line{"! " + text, s})
	}
	return append(out, line{})
}

// table are the rows of nodes below their heading, in as many columns as fit.
func (f *Frame) table(width int) []line {
	shown := slices.Clone(columns)
	for {
		lines, wide := layOut(shown, f.Nodes)
		if width == 0 || wide <= width || len(shown) <= 3 {
			return lines
		}
		worst := 0
		for i, c := range shown {
			if c.rank >= shown[worst].rank {
				worst = i
			}
		}
		shown = slices.Delete(shown, worst, worst+1)
	}
}

func layOut(shown []column, rows []Row) (lines []line, wide int) {
	widths := make([]int, len(shown))
	cells := [][]string{make([]string, len(shown))}
	for i, c := range shown {
		cells[0][i] = c.title
	}
	for _, r := range rows {
		row := make([]string, len(shown))
		for i, c := range shown {
			row[i] = output.Printable(c.cell(r))
		}
		cells = append(cells, row)
	}
	for _, row := range cells {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for n, row := range cells {
		var b strings.Builder
		for i, text := range row {
			if i > 0 {
				b.WriteString("  ")
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if shown[i].right {
				text = pad + text
			} else {
				text += pad
			}
			b.WriteString(text)
		}
		text := strings.TrimRight(b.String(), " ")
		wide = max(wide, utf8.RuneCountInString(text))
		lines = append(lines, line{text, styleOf(n, rows)})
	}
	return lines, wide
}

// styleOf is the style of the heading and of the rows below it.
func styleOf(n int, rows []Row) style {
	switch {
	case n == 0:
		return heading
	case rows[n-1].State == down:
		return alarm
	case rows[n-1].State != "serving" || rows[n-1].WritesPaused:
		return caution
	}
	return plain
}

func counts(rows []Row) string {
	live := 0
	for _, r := range rows {
		if r.State != down {
			live++
		}
	}
	return fmt.Sprintf("%d of %d nodes answer", live, len(rows))
}

// cut shortens a text to a width; 0 is none.
func cut(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "~"
}

// Text is the frame for scripts and for what is no terminal.
func (f *Frame) Text() string {
	var b strings.Builder
	for _, l := range f.lines(0, 0, false) {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}
