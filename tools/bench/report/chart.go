package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/tools/bench/table"
)

// The size of the chart, in pixels of SVG.
const (
	panelWidth, panelHeight  = 430, 300
	marginLeft, marginTop    = 62, 54
	marginBetween            = 70
	marginRight, marginUnder = 24, 74
	width                    = marginLeft + 2*panelWidth + marginBetween + marginRight
	height                   = marginTop + panelHeight + marginUnder
)

// style has colours for light and for dark pages, told apart without colour by the marks.
const style = `<style>
  svg { --page: #ffffff; --ink: #24292f; --grid: #d0d7de; --a: #0b62c4; --b: #b35900; --c: #6e7781; font: 12px sans-serif }
  @media (prefers-color-scheme: dark) { svg { --page: #0d1117; --ink: #e6edf3; --grid: #30363d; --a: #58a6ff; --b: #f0a050; --c: #9da7b1 } }
  .page { fill: var(--page) } text { fill: var(--ink) } .title { font-size: 14px; font-weight: bold }
  .grid { stroke: var(--grid); stroke-width: 1 } .line { fill: none; stroke-width: 2 } .p99 { stroke-dasharray: 5 4; stroke-width: 1.3 }
  .a { stroke: var(--a) } .b { stroke: var(--b) } .c { stroke: var(--c) } .dot { fill: var(--page); stroke-width: 2 } .n { font-size: 10px }
</style>
`

// point is one load: throughput, and p50 and p99 in milliseconds.
type point struct {
	workers           int
	rate, median, p99 float64
}

// line is the points of one system.
type line struct {
	system table.System
	class  string
	points []point
}

// drawChart draws throughput against latency, of puts and of linearizable gets at the
// leader, with one point for each number of workers.
func drawChart(r *table.Results) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Throughput against latency of put and get">`+"\n", width, height)
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="page" width="%d" height="%d"/>`+"\n", width, height)
	for i, panel := range []struct{ title, prefix string }{
		{"put, leader", "put-leader-"}, {"linearizable get, leader", "get-lin-leader-"},
	} {
		drawPanel(&b, marginLeft+i*(panelWidth+marginBetween), panel.title, linesOf(r, panel.prefix))
	}
	drawLegend(&b)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// linesOf collects the rows whose ids begin with a prefix, of each system.
func linesOf(r *table.Results, prefix string) []line {
	lines := []line{{system: table.DKV, class: "a"}, {system: table.Etcd, class: "b"}, {system: table.Echo, class: "c"}}
	for _, g := range table.Groups() {
		for _, row := range g.Rows {
			if !strings.HasPrefix(row.ID, prefix) {
				continue
			}
			for i := range lines {
				rate, there := r.Spread(row.ID, lines[i].system, table.Throughput)
				if !there {
					continue
				}
				median, _ := r.Spread(row.ID, lines[i].system, table.P50)
				p99, _ := r.Spread(row.ID, lines[i].system, table.P99)
				lines[i].points = append(lines[i].points, point{row.Load.Workers, rate.Median / 1e3, median.Median / 1e3, p99.Median / 1e3})
			}
		}
	}
	for i := range lines {
		slices.SortFunc(lines[i].points, func(a, b point) int { return cmp.Compare(a.workers, b.workers) })
	}
	return lines
}

// axes map values to pixels: throughput linearly, latency by its logarithm.
type axes struct {
	left      int
	most      float64 // thousands a second
	low, high int     // powers of ten, in milliseconds
}

func axesOf(left int, lines []line) axes {
	a := axes{left: left, most: 1, low: 0, high: 0}
	for _, l := range lines {
		for _, p := range l.points {
			a.most = max(a.most, p.rate)
			a.low = min(a.low, int(math.Floor(math.Log10(max(p.median, 1e-3)))))
			a.high = max(a.high, int(math.Ceil(math.Log10(max(p.p99, 1e-3)))))
		}
	}
	if a.low == a.high {
		a.high++
	}
	return a
}

func (a axes) x(rate float64) float64 { return float64(a.left) + rate/a.most*panelWidth*0.96 }

func (a axes) y(ms float64) float64 {
	part := (math.Log10(max(ms, 1e-3)) - float64(a.low)) / float64(a.high-a.low)
	return marginTop + panelHeight*(1-part)
}

// step returns the distance of grid lines: 1, 2 or 5 times a power of ten.
func (a axes) step() float64 {
	power := math.Pow(10, math.Floor(math.Log10(a.most/3)))
	for _, f := range []float64{1, 2, 5} {
		if a.most/(f*power) <= 6 {
			return f * power
		}
	}
	return 10 * power
}

func drawPanel(b *strings.Builder, left int, title string, lines []line) {
	a := axesOf(left, lines)
	bottom := marginTop + panelHeight
	fmt.Fprintf(b, `<text class="title" x="%d" y="%d">%s</text>`+"\n", left, marginTop-12, title)
	for n := a.low; n <= a.high; n++ {
		ms := math.Pow(10, float64(n))
		fmt.Fprintf(b, `<path class="grid" d="M%d %.1fh%d"/><text x="%d" y="%.1f" text-anchor="end">%g ms</text>`+"\n", left, a.y(ms), panelWidth, left-6, a.y(ms)+4, ms)
	}
	for rate := 0.0; rate <= a.most; rate += a.step() {
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %dv%d"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", a.x(rate), marginTop, panelHeight, a.x(rate), bottom+16, rate)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">thousands a second</text>`+"\n", left+panelWidth/2, bottom+34)
	for _, l := range lines {
		drawLine(b, a, l)
	}
}

func drawLine(b *strings.Builder, a axes, l line) {
	if len(l.points) == 0 {
		return
	}
	var median, p99 strings.Builder
	for i, p := range l.points {
		command := 'L'
		if i == 0 {
			command = 'M'
		}
		fmt.Fprintf(&median, "%c%.1f %.1f", command, a.x(p.rate), a.y(p.median))
		fmt.Fprintf(&p99, "%c%.1f %.1f", command, a.x(p.rate), a.y(p.p99))
	}
	fmt.Fprintf(b, `<path class="line %s" d="%s"/><path class="line p99 %s" d="%s"/>`+"\n", l.class, &median, l.class, &p99)
	for _, p := range l.points {
		drawMark(b, l.class, a.x(p.rate), a.y(p.median))
		fmt.Fprintf(b, `<text class="n" x="%.1f" y="%.1f">%d</text>`+"\n", a.x(p.rate)+7, a.y(p.median)+12, p.workers)
	}
}

// drawMark draws a circle, a square or a triangle.
func drawMark(b *strings.Builder, class string, x, y float64) {
	switch class {
	case "a":
		fmt.Fprintf(b, `<circle class="dot a" cx="%.1f" cy="%.1f" r="4"/>`, x, y)
	case "b":
		fmt.Fprintf(b, `<rect class="dot b" x="%.1f" y="%.1f" width="7" height="7"/>`, x-3.5, y-3.5)
	default:
		fmt.Fprintf(b, `<path class="dot c" d="M%.1f %.1fl4.5 8h-9z"/>`, x, y-5)
	}
}

func drawLegend(b *strings.Builder) {
	y := float64(height - 18)
	for i, l := range []struct{ class, text string }{{"a", string(table.DKV)}, {"b", string(table.Etcd)}, {"c", string(table.Echo)}} {
		x := float64(marginLeft + i*90)
		drawMark(b, l.class, x, y)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`+"\n", x+10, y+4, l.text)
	}
	fmt.Fprintf(b, `<text x="%d" y="%.1f">line: p50; dashed: p99; the numbers are workers. Lower and further right is better.</text>`+"\n", marginLeft+290, y+4)
}
