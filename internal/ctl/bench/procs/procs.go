// Package procs measures what processes of this machine use while a server is under load:
// processor time, context switches, and system calls that read or write. It reads Linux's
// /proc.
package procs

import (
	"errors"
	"fmt"
	"time"
)

// ErrUnsupported is the error on systems without Linux's /proc.
var ErrUnsupported = errors.New("what processes use is read from /proc, which only Linux has")

// Usage is what processes have used since they started, or between two readings.
type Usage struct {
	// CPU is user and system time.
	CPU time.Duration
	// Switches are context switches, voluntary or not, of all threads.
	Switches uint64
	// Calls are system calls that read or write files or sockets. Only the user that a
	// process belongs to, and root, may read them.
	Calls uint64
	// CallsKnown reports whether Calls could be read for all processes.
	CallsKnown bool
}

// Since returns what was used since an earlier reading. A thread that ended in between
// takes its context switches with it, so that there may seem to be fewer.
func (u Usage) Since(before Usage) Usage {
	return Usage{
		CPU:        max(u.CPU-before.CPU, 0),
		Switches:   u.Switches - min(before.Switches, u.Switches),
		Calls:      u.Calls - min(before.Calls, u.Calls),
		CallsKnown: u.CallsKnown && before.CallsKnown,
	}
}

func (u Usage) add(o Usage) Usage {
	return Usage{u.CPU + o.CPU, u.Switches + o.Switches, u.Calls + o.Calls, u.CallsKnown && o.CallsKnown}
}

// Set is processes that are measured together, such as the nodes of a cluster.
type Set struct {
	processes []process
}

// process is identified by its start as well, since ids are used again.
type process struct {
	pid     int
	started uint64
}

// Find returns the running processes with the given ids.
func Find(pids []int) (*Set, error) {
	s := &Set{}
	for _, pid := range pids {
		st, err := readStat(pid)
		if err != nil {
			return nil, fmt.Errorf("cannot measure process %d: %w", pid, err)
		}
		s.processes = append(s.processes, process{pid, st.started})
	}
	return s, nil
}

// Len returns the number of processes.
func (s *Set) Len() int { return len(s.processes) }

// Read returns what all processes have used since each of them started. It fails if one
// of them has ended.
func (s *Set) Read() (Usage, error) {
	sum := Usage{CallsKnown: true}
	for _, p := range s.processes {
		st, err := readStat(p.pid)
		if err == nil && st.started != p.started {
			err = errEnded
		}
		if err != nil {
			return Usage{}, fmt.Errorf("cannot measure process %d: %w", p.pid, err)
		}
		sum = sum.add(st.usage)
	}
	return sum, nil
}

// errEnded is the error of a process that was found, and has ended.
var errEnded = errors.New("it has ended")

// stat is what is read of one process.
type stat struct {
	started uint64 // in clock ticks since the machine started
	usage   Usage
}
