package procs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: a hundredth of a second on every architecture that
// Go supports, whatever the kernel's own timer (proc(5), USER_HZ).
const tick = 10 * time.Millisecond

// Fields of /proc/PID/stat behind the program's name, which ends with a parenthesis: the
// numbers of proc(5) less 3.
const (
	fieldState   = 0
	fieldUser    = 11
	fieldSystem  = 12
	fieldStarted = 19
)

// readStat reads a process. One that has ended and whose parent has not asked for its exit
// code is taken for ended.
func readStat(pid int) (stat, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	raw, err := os.ReadFile(dir + "/stat")
	if gone(err) {
		return stat{}, errors.New("no process on this machine has this id")
	}
	if err != nil {
		return stat{}, err
	}
	st, err := parseStat(raw)
	if err != nil {
		return stat{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	if st.usage.Switches, err = readSwitches(dir); err != nil {
		return stat{}, err
	}
	if io, err := os.ReadFile(dir + "/io"); err == nil {
		st.usage.Calls, st.usage.CallsKnown = numberAfter(io, "syscr:")+numberAfter(io, "syscw:"), true
	}
	return st, nil
}

// gone reports whether a file of /proc is missing because its process or thread has ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

func parseStat(raw []byte) (stat, error) {
	// The name may contain anything, so its end is the last parenthesis.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) <= fieldStarted {
		return stat{}, fmt.Errorf("%q has too few fields", raw)
	}
	if fields[fieldState] == "Z" || fields[fieldState] == "X" {
		return stat{}, errEnded
	}
	var numbers [3]uint64
	for i, field := range []int{fieldUser, fieldSystem, fieldStarted} {
		n, err := strconv.ParseUint(fields[field], 10, 64)
		if err != nil {
			return stat{}, err
		}
		numbers[i] = n
	}
	return stat{started: numbers[2], usage: Usage{CPU: time.Duration(numbers[0]+numbers[1]) * tick}}, nil
}

// readSwitches adds up the threads: the process's own status counts only its first one.
func readSwitches(dir string) (uint64, error) {
	tasks, err := os.ReadDir(dir + "/task")
	if gone(err) {
		return 0, errEnded
	}
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, task := range tasks {
		raw, err := os.ReadFile(dir + "/task/" + task.Name() + "/status")
		if gone(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += numberAfter(raw, "\nvoluntary_ctxt_switches:") + numberAfter(raw, "\nnonvoluntary_ctxt_switches:")
	}
	return sum, nil
}

// numberAfter returns the number behind a label, or 0 if there is none.
func numberAfter(raw []byte, label string) uint64 {
	_, rest, found := bytes.Cut(raw, []byte(label))
	if !found {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	return n
}
