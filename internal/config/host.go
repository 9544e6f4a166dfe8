package config

import (
	"bufio"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is what a configuration needs to know about the machine.
type Host struct {
	// Files are the configuration files that are tried in turn if none is named.
	Files []string
	// Name returns the machine's name.
	Name func() (string, error)
	// Nodes returns the nodes that have data below a root-folder; nil means none.
	Nodes func(rootFolder string) (KnownNodes, error)
	// Addrs returns the machine's unicast addresses, the preferred one first.
	Addrs func() []netip.Addr
	// Memory returns how much memory this process may use; 0 is unknown.
	Memory func() Size
	// FileSystem returns the size of the file system that a folder is, or would
	// be, on; 0 is unknown.
	FileSystem func(folder string) Size
	// OpenFiles returns how many files and connections this process may have open.
	OpenFiles func() int
}

// ThisHost is the machine that the program runs on.
func ThisHost() Host {
	return Host{
		Files:      []string{"dkvsrv.yaml", "/etc/default/dkvsrv.yaml"},
		Name:       os.Hostname,
		Nodes:      knownNodes,
		Addrs:      interfaceAddrs,
		Memory:     func() Size { return usableMemory(os.DirFS("/")) },
		FileSystem: fileSystemSize,
		OpenFiles:  OpenFiles,
	}
}

// fileSystemSize asks the nearest existing parent: the folder may not exist yet.
func fileSystemSize(folder string) Size {
	folder, err := filepath.Abs(folder)
	for err == nil {
		var fs unix.Statfs_t
		if unix.Statfs(folder, &fs) == nil {
			return Size(fs.Blocks) * Size(fs.Bsize)
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			break
		}
		folder = parent
	}
	return 0
}

// OpenFiles returns how many files and connections this process may have open. Go
// raised the limit to the hard one when the process started.
func OpenFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > maxCount {
		return maxCount
	}
	return int(l.Cur)
}

// interfaceAddrs returns the global unicast addresses of this machine's
// interfaces, IPv4 first: the ones another machine could connect to.
func interfaceAddrs() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var v4, v6 []netip.Addr
	for _, n := range nets {
		prefix, err := netip.ParsePrefix(n.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.Is4() {
			v4 = append(v4, ip)
		} else {
			v6 = append(v6, ip)
		}
	}
	return append(v4, v6...)
}

// usableMemory returns the machine's memory, or the least limit that control groups
// set on this process if that is less. root is the file system's root.
func usableMemory(root fs.FS) Size {
	least := totalMemory(root)
	for _, dir := range memoryGroups(root) {
		// The limits of all ancestors apply too.
		for ; ; dir.path = path.Dir(dir.path) {
			if limit := readLimit(root, path.Join(dir.mount, dir.path, dir.file)); limit > 0 && (least == 0 || limit < least) {
				least = limit
			}
			if dir.path == "/" || dir.path == "." {
				break
			}
		}
	}
	return least
}

// totalMemory reads MemTotal, which proc counts in KiB.
func totalMemory(root fs.FS) Size {
	f, err := root.Open("proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/int64(KiB) {
				return 0
			}
			return Size(n) * KiB
		}
	}
	return 0
}

// memoryGroup is where a control group's memory limit is read.
type memoryGroup struct{ mount, path, file string }

// memoryGroups returns the control groups of this process that limit memory.
// A line of proc/self/cgroup is "0::/path" for version 2 and
// "7:memory:/path" for version 1. Inside a container the path may be one of
// the host, which is not visible; the mount's root is then the container's
// own group, and walking up reaches it.
func memoryGroups(root fs.FS) []memoryGroup {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var groups []memoryGroup
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir := path.Clean("/" + fields[2])
		switch {
		case fields[0] == "0" && fields[1] == "":
			groups = append(groups, memoryGroup{"sys/fs/cgroup", dir, "memory.max"})
		case strings.Contains(","+fields[1]+",", ",memory,"):
			groups = append(groups, memoryGroup{"sys/fs/cgroup/memory", dir, "memory.limit_in_bytes"})
		}
	}
	return groups
}

// readLimit reads a limit in bytes; 0 is none ("max", or version 1's huge
// number, which no comparison picks).
func readLimit(root fs.FS, name string) Size {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return Size(n)
}
