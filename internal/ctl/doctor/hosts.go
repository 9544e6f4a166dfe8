package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func hostChecks() []Check {
	return []Check{
		{ID: "open-files", Title: "the process may open enough files", find: files, Needs: Report, Why: "at the limit connections are refused, and the engine cannot open its tables"},
		{ID: "memory-config", Title: "caches and buffers fit the host's memory", find: memoryConfigured, Needs: Report, Why: "the system kills the process when memory is used up"},
		{ID: "memory-use", Title: "memory is left", find: memoryUsed, Needs: Report, Why: "the system kills the process when memory is used up"},
		{ID: "swap", Title: "the process is not swapped out", find: swapped, Needs: Report, Why: "a swapped process pauses for the disk, and loses its leadership while it does"},
		{ID: "processors", Title: "hosts have two processors or more", find: processors, Needs: Report, Why: "compactions and elections compete with requests for the only one"},
	}
}

const (
	fewFiles      = 8192
	filesFull     = 0.8
	memoryShare   = 0.8
	swappedLittle = 64 << 20
)

func files(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		h := n.Report.Host
		mend := "raise it: LimitNOFILE=1048576 in the systemd unit, ulimit -n in a shell, --ulimit nofile in docker run; then restart the node"
		switch {
		case h.FilesLimit <= 0:
			return nil
		case float64(h.FilesOpen) > filesFull*float64(h.FilesLimit):
			return &Finding{Severity: Problem, What: fmt.Sprintf("%d of %d files are open", h.FilesOpen, h.FilesLimit), Mend: mend}
		case h.FilesLimit < fewFiles:
			return &Finding{Severity: Warning, What: fmt.Sprintf("it may open %d files only", h.FilesLimit), Mend: mend}
		}
		return nil
	})
}

func memoryConfigured(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		c := n.Report.Config
		cache, buffer, flight := bytesOf(c["block-cache-size"]), bytesOf(c["write-buffer-size"]), bytesOf(c["max-memory-in-flight"])
		total := cache + buffer + 2*flight
		if n.Report.Host.Memory == 0 || float64(total) <= memoryShare*float64(n.Report.Host.Memory) {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("block-cache-size %s, write-buffer-size %s and twice max-memory-in-flight %s are %s, and the host has %s",
			c["block-cache-size"], c["write-buffer-size"], c["max-memory-in-flight"], size(total), size(n.Report.Host.Memory)),
			Mend: "lower block-cache-size first; preset: small fits all of them to a small host; or raise the memory limit of the container"}
	})
}

// bytesOf reads a size as the configuration shows it; 0 if it is none.
func bytesOf(text string) uint64 {
	for suffix, unit := range map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		if digits, is := strings.CutSuffix(text, suffix); is {
			n, _ := strconv.ParseUint(strings.TrimSpace(digits), 10, 32) // 0 if it is no number
			return n * unit
		}
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

func memoryUsed(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		h := n.Report.Host
		switch {
		case h.Memory == 0:
			return nil
		case float64(h.Resident) > memoryShare*float64(h.Memory):
			return &Finding{Severity: Warning, What: fmt.Sprintf("the process uses %s of %s", size(h.Resident), size(h.Memory)),
				Mend: "lower block-cache-size and max-memory-in-flight, or give the host more memory"}
		case h.Available > 0 && h.Available < h.Memory/20:
			return &Finding{Severity: Warning, What: fmt.Sprintf("%s of the host's memory are left", size(h.Available)), Mend: "move other programs away from its host, or give it more memory"}
		}
		return nil
	})
}

func swapped(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Report.Host.Swapped < swappedLittle {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("%s of the process are swapped out", size(n.Report.Host.Swapped)),
			Mend: "sysctl vm.swappiness=1, or MemorySwapMax=0 in the systemd unit; lower block-cache-size"}
	})
}

func processors(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Report.Host.CPUs != 1 {
			return nil
		}
		return &Finding{Severity: Warning, What: "its host has one processor", Mend: "give it two or more"}
	})
}
