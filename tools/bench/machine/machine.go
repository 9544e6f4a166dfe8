//go:build linux

// Package machine describes the machine and the programs that a measurement used, and
// measures what is outside of the programs: other load, and the disk.
package machine

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Describe returns the processors, the memory, the kernel and the file system of dir, in
// one line.
func Describe(dir string) string {
	return fmt.Sprintf("%d x %s, %s of memory, Linux %s, %s", runtime.NumCPU(), processor(), memory(), kernel(), fileSystem(dir))
}

// firstMatch returns the first group of an expression in a file, or "unknown".
func firstMatch(path, expression string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	m := regexp.MustCompile(expression).FindSubmatch(raw)
	if m == nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(m[1]))
}

func processor() string {
	name := firstMatch("/proc/cpuinfo", `(?m)^model name\s*: (.*)$`)
	if name == "unknown" {
		return runtime.GOARCH + " processor"
	}
	return strings.Join(strings.Fields(name), " ")
}

func memory() string {
	kib, err := strconv.ParseUint(firstMatch("/proc/meminfo", `(?m)^MemTotal:\s*(\d+) kB$`), 10, 64)
	if err != nil {
		return "unknown size"
	}
	return fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
}

func kernel() string { return firstMatch("/proc/sys/kernel/osrelease", `(.*)`) }

// fileSystem returns the type of the file system that dir is on: that of the longest
// mount point above it.
func fileSystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown file system"
	}
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	longest, kind := -1, "unknown file system"
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		rel, err := filepath.Rel(f[1], dir)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") && len(f[1]) >= longest {
			longest, kind = len(f[1]), f[2]
		}
	}
	return kind
}

// Program returns the first line of what a program says of its version, and the first
// digits of its checksum.
func Program(path, version string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	line, _, _ := strings.Cut(strings.TrimSpace(version), "\n")
	return fmt.Sprintf("%s, sha256 %s", line, hex.EncodeToString(sum[:6])), nil
}

// RocksDB returns the version that wrote a node's folder, which is in its OPTIONS files,
// and how the program links it.
func RocksDB(program, folder string) (string, error) {
	version := "of unknown version"
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(entry.Name(), "OPTIONS-") {
			version = firstMatch(path, `(?m)^\s*rocksdb_version=(\S+)`)
			return filepath.SkipAll
		}
		return err
	})
	if err != nil {
		return "", err
	}
	file, err := elf.Open(program)
	if err != nil {
		return "", err
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return "", err
	}
	link := "linked statically"
	for _, l := range libraries {
		if strings.HasPrefix(l, "librocksdb") {
			link = "linked dynamically (" + l + ")"
		}
	}
	source := "the system's"
	if prefix := os.Getenv("ROCKSDB_PREFIX"); prefix != "" {
		source = "built by the user"
	}
	return fmt.Sprintf("RocksDB %s, %s, %s", version, source, link), nil
}

// BusyTime returns how long all processors together have worked since the machine started.
func BusyTime() (time.Duration, error) {
	file, err := os.Open("/proc/stat")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	if !lines.Scan() {
		return 0, fmt.Errorf("/proc/stat is empty")
	}
	return busy(lines.Text())
}

// busy reads the line "cpu user nice system idle iowait irq softirq steal ...". Time stolen
// by other machines on the host counts as busy.
func busy(line string) (time.Duration, error) {
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks uint64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// OwnTime returns the processor time of this process.
func OwnTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Sync returns the median time of an fdatasync after a small write, in dir.
func Sync(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	const writes = 200
	block := make([]byte, 512)
	var took []time.Duration
	for range writes {
		if _, err := file.Write(block); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[writes/2], nil
}
