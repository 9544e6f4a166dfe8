package report

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Host is the machine and the process. What the system does not say is 0.
type Host struct {
	Name string `json:"name"`
	CPUs int    `json:"cpus"`
	// MemoryBytes is the machine's memory, or the control group's limit if that is less;
	// AvailableBytes is what programs can still have of the machine's.
	MemoryBytes    uint64 `json:"memory_bytes"`
	AvailableBytes uint64 `json:"available_bytes"`
	// ResidentBytes and SwappedBytes are the process's memory, in memory and swapped out.
	ResidentBytes uint64 `json:"resident_bytes"`
	SwappedBytes  uint64 `json:"swapped_bytes"`
	// HeapLimitBytes is the limit of Go's heap; 0 for none.
	HeapLimitBytes uint64 `json:"heap_limit_bytes"`
	// FilesLimit is how many files the process may have open, FilesOpen how many it has.
	FilesLimit int `json:"files_limit"`
	FilesOpen  int `json:"files_open"`
	// ClockSynchronized is whether the system's clock follows another one; nil if it is not
	// known.
	ClockSynchronized *bool `json:"clock_synchronized"`
	// Time is the wall clock as the answer is made.
	Time time.Time `json:"time"`
}

func hostOf(filesLimit int) Host {
	name, _ := os.Hostname() // empty if it is not known
	h := Host{Name: name, CPUs: runtime.NumCPU(), FilesLimit: filesLimit, ClockSynchronized: clockSynchronized()}
	memory := amounts("/proc/meminfo")
	h.MemoryBytes, h.AvailableBytes = memory["MemTotal"], memory["MemAvailable"]
	if limit := groupLimit(); limit > 0 && (limit < h.MemoryBytes || h.MemoryBytes == 0) {
		h.MemoryBytes = limit
	}
	own := amounts("/proc/self/status")
	h.ResidentBytes, h.SwappedBytes = own["VmRSS"], own["VmSwap"]
	if limit := debug.SetMemoryLimit(-1); limit < 1<<62 {
		h.HeapLimitBytes = uint64(limit)
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		h.FilesOpen = len(open)
	}
	return h
}

// amounts reads lines such as "MemTotal: 16000 kB" of a file, in bytes. It returns none of a
// file that is not there, as on other systems.
func amounts(path string) map[string]uint64 {
	out := make(map[string]uint64)
	f, err := os.Open(path)
	if err != nil {
		return out
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if len(fields) == 2 && fields[1] == "kB" {
			n, _ := strconv.ParseUint(fields[0], 10, 54) // 0 if it is no number
			out[name] = n << 10
		}
	}
	return out
}

// groupLimit is the memory limit of the process's control group; 0 for none.
func groupLimit() uint64 {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := uint64(0)
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] != "" { // version 2 only
			continue
		}
		for group := parts[2]; ; group = filepath.Dir(group) {
			raw, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "memory.max"))
			if n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err == nil && (least == 0 || n < least) {
				least = n
			}
			if group == "/" || group == "." {
				break
			}
		}
	}
	return least
}
