package bench

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
)

// ServerUse is what the processes of the servers used for each successful operation of
// the time measured. Unlike a rate it holds on any host: it does not depend on what else
// the processors do.
type ServerUse struct {
	Processes int `json:"processes"`
	// CPUSeconds is the processor time of all processes, in user and system mode.
	CPUSeconds float64 `json:"cpu_seconds"`
	CPUMicros  float64 `json:"cpu_micros_per_operation"`
	Switches   float64 `json:"context_switches_per_operation"`
	// Calls are system calls that read or write; nil if this user may not read them.
	Calls *float64 `json:"reads_and_writes_per_operation,omitempty"`
}

// String returns it in one line.
func (u *ServerUse) String() string {
	processes := "1 process"
	if u.Processes != 1 {
		processes = fmt.Sprintf("%d processes", u.Processes)
	}
	text := fmt.Sprintf("an operation: CPU %s, %.1f context switches", micros(u.CPUMicros), u.Switches)
	if u.Calls != nil {
		text += fmt.Sprintf(", %.1f reads and writes", *u.Calls)
	}
	return fmt.Sprintf("%s (%s, %.2f s of CPU)", text, processes, u.CPUSeconds)
}

// use measures what processes use from startUse to end.
type use struct {
	set    *procs.Set
	before procs.Usage
}

// startUse begins to measure, or does nothing if there is nothing to measure.
func startUse(set *procs.Set) (*use, error) {
	if set == nil || set.Len() == 0 {
		return nil, nil
	}
	before, err := set.Read()
	return &use{set, before}, err
}

// end returns what was used since the start; nil if nothing is measured.
func (u *use) end() (*used, error) {
	if u == nil {
		return nil, nil
	}
	now, err := u.set.Read()
	if err != nil {
		return nil, err
	}
	return &used{u.set.Len(), now.Since(u.before)}, nil
}

// used is what processes used.
type used struct {
	processes int
	usage     procs.Usage
}

// perOperation divides it by a number of operations; nil if nothing is measured, or if
// there was no operation.
func (u *used) perOperation(operations uint64) *ServerUse {
	if u == nil || operations == 0 {
		return nil
	}
	n := float64(operations)
	r := &ServerUse{
		Processes: u.processes, CPUSeconds: u.usage.CPU.Seconds(),
		CPUMicros: u.usage.CPU.Seconds() * 1e6 / n, Switches: float64(u.usage.Switches) / n,
	}
	if u.usage.CallsKnown {
		calls := float64(u.usage.Calls) / n
		r.Calls = &calls
	}
	return r
}
