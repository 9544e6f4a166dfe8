package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Settings are what results depend on: those of runs with different ones do not mix.
type Settings struct {
	Rounds    int     `json:"rounds"`
	Seconds   float64 `json:"seconds"`
	Warmup    float64 `json:"warmup_seconds"`
	Keys      uint64  `json:"keys"`
	Failovers int     `json:"failovers"`
	Rows      string  `json:"rows,omitempty"` // the expression that chooses them
	Machine   string  `json:"machine"`
	DKV       string  `json:"dkv"`  // version and checksum of the program
	Etcd      string  `json:"etcd"` // its version; "" without etcd
	Date      string  `json:"date"` // of the start
}

// Result is one measurement.
type Result struct {
	Row    string `json:"row"`
	System System `json:"system"`
	Round  int    `json:"round"` // from 0
	// Values are by measure.
	Values map[Measure]float64 `json:"values"`
	// Switches and Calls are context switches, and reads and writes, an operation.
	Switches float64 `json:"switches,omitempty"`
	Calls    float64 `json:"calls,omitempty"`
	// Others is the share of all processors that other programs took.
	Others float64 `json:"others,omitempty"`
	// Failed are operations that ended with an error.
	Failed uint64 `json:"failed,omitempty"`
	// About is a text instead of values, such as RocksDB's version.
	About string `json:"about,omitempty"`
}

// Results are those of one run. Each is in the file before the next is measured.
type Results struct {
	Settings Settings
	All      []Result
	file     *os.File
}

// Create begins a new file, in place of what path had.
func Create(path string, s Settings) (*Results, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("cannot create the file of results: %w", err)
	}
	r := &Results{Settings: s, file: file}
	return r, r.write(s)
}

// Open reads the results of a run. More can be added.
func Open(path string) (*Results, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there are no results; start without -resume", path)
	}
	if err != nil {
		return nil, err
	}
	// A line that was cut off by a kill is measured again.
	whole := raw[:bytes.LastIndexByte(raw, '\n')+1]
	r := &Results{}
	lines := bufio.NewScanner(bytes.NewReader(whole))
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			err = json.Unmarshal(lines.Bytes(), &r.Settings)
		} else {
			r.All = append(r.All, Result{})
			err = json.Unmarshal(lines.Bytes(), &r.All[n-2])
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	if err := errors.Join(lines.Err(), os.Truncate(path, int64(len(whole)))); err != nil {
		return nil, err
	}
	r.file, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	return r, err
}

// Resumable returns an error if results with other settings cannot continue these.
func (r *Results) Resumable(s Settings) error {
	s.Date = r.Settings.Date
	if s != r.Settings {
		return fmt.Errorf("the results are of another build, machine or length, and cannot be continued (they have %+v, this run %+v); start without -resume", r.Settings, s)
	}
	return nil
}

func (r *Results) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("cannot write a result: %w", err)
	}
	return nil
}

// Add appends a result.
func (r *Results) Add(one Result) error {
	r.All = append(r.All, one)
	return r.write(one)
}

// Close closes the file.
func (r *Results) Close() error { return r.file.Close() }

// Has reports whether a measurement was made.
func (r *Results) Has(row string, system System, round int) bool {
	return slices.ContainsFunc(r.All, func(o Result) bool { return o.Row == row && o.System == system && o.Round == round })
}

// About returns the text of a row that has one; "" if there is none.
func (r *Results) About(row string) string {
	for _, o := range r.All {
		if o.Row == row {
			return o.About
		}
	}
	return ""
}

// Of returns the values of all rounds of a row.
func (r *Results) Of(row string, system System, m Measure) []float64 {
	var out []float64
	for _, o := range r.All {
		if v, ok := o.Values[m]; ok && o.Row == row && o.System == system {
			out = append(out, v)
		}
	}
	return out
}

// Spread is the least, the middle and the greatest of several values.
type Spread struct{ Min, Median, Max float64 }

// Spread returns that of all rounds of a row, or false if there are none.
func (r *Results) Spread(row string, system System, m Measure) (Spread, bool) {
	all := r.Of(row, system, m)
	if len(all) == 0 {
		return Spread{}, false
	}
	slices.Sort(all)
	n := len(all)
	return Spread{all[0], (all[(n-1)/2] + all[n/2]) / 2, all[n-1]}, true
}
