package hostile

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"context"
)

// vitals are the resources that a process takes.
type vitals struct {
	rss        int64 // bytes
	fds        int
	goroutines int // -1 if the node did not answer
}

func (v vitals) String() string {
	return fmt.Sprintf("%d MiB, %d descriptors, %d goroutines", v.rss>>20, v.fds, v.goroutines)
}

// processors is how long the threads of a process have run, and how long they waited until
// they could.
type processors struct{ ran, waited time.Duration }

func (p processors) since(then processors) processors {
	return processors{p.ran - then.ran, p.waited - then.waited}
}

func (p processors) String() string {
	return fmt.Sprintf("%.1fs+%.1fs", p.ran.Seconds(), p.waited.Seconds())
}

// processorsOf asks the kernel.
func processorsOf(pid int) (sum processors) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range threads {
		var p processors
		if raw, err := os.ReadFile(path); err == nil { // else the thread has ended
			_, _ = fmt.Sscan(string(raw), &p.ran, &p.waited)
		}
		sum.ran += p.ran
		sum.waited += p.waited
	}
	return sum
}

// busy is how long all processes of the machine have run, and what has the processors beside
// it, such as other virtual machines.
func busy() (sum time.Duration) {
	raw, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	for i, field := range fields {
		if i == 1 || i == 2 || i == 3 || i == 8 {
			ticks, _ := strconv.ParseInt(field, 10, 64)
			sum += time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on all of Linux's architectures in use
		}
	}
	return sum
}

// processors is what all nodes have had.
func (f *field) processors() (sum processors) {
	for _, n := range f.nodes {
		p := processorsOf(n.PID())
		sum.ran += p.ran
		sum.waited += p.waited
	}
	return sum
}

// resident is the memory of the node's process, and files how many files it has open, both
// according to the kernel, which answers even if the node does not.
func (n *node) resident() int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func (n *node) files() int {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		return 0
	}
	return len(all)
}

// vitals measures all of them.
func (n *node) vitals() vitals {
	return vitals{rss: n.resident(), fds: n.files(), goroutines: n.goroutines()}
}

// vitals measures all nodes.
func (f *field) vitals() map[*node]vitals {
	out := make(map[*node]vitals)
	for _, n := range f.nodes {
		out[n] = n.vitals()
	}
	return out
}

// goroutines asks the node itself.
func (n *node) goroutines() int {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }}
	client := http.Client{Timeout: 5 * time.Second, Transport: transport}
	resp, err := client.Get("http://" + n.http + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, _ := strconv.ParseFloat(rest, 64)
			return int(n)
		}
	}
	return -1
}

// sampled watches the memory of nodes until it is asked for the most of any of them.
func sampled(t testing.TB, nodes []*node) (most func() int64) {
	stop, top := make(chan struct{}), make(chan int64, 1)
	end := sync.OnceFunc(func() { close(stop) })
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var seen int64
		for {
			select {
			case <-tick.C:
				for _, n := range nodes {
					seen = max(seen, n.resident())
				}
			case <-stop:
				top <- seen
				return
			}
		}
	}()
	t.Cleanup(end)
	return func() int64 { end(); return <-top }
}
