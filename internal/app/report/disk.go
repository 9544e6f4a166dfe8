package report

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

// Disk is where the node stores its data; all zero if it is diskless.
type Disk struct {
	Path         string `json:"path"`
	FreeBytes    uint64 `json:"free_bytes"`
	TotalBytes   uint64 `json:"total_bytes"`
	ReserveBytes uint64 `json:"reserve_bytes"`
	// SyncSeconds is how long a small write takes to become durable: the median of some.
	SyncSeconds float64 `json:"sync_seconds"`
	// SyncFault is why that could not be measured.
	SyncFault string `json:"sync_fault,omitempty"`
}

const (
	syncProbes = 5
	probeBytes = 4 << 10
	// probeTime bounds the probes: a disk that is slower than that is slow enough.
	probeTime = 2 * time.Second
)

// probing has one measurement run at a time: the disk is the node's, too.
var probing sync.Mutex

// measure writes a file of its own in the folder, syncs it some times and removes it.
func (d *Disk) measure(ctx context.Context) {
	probing.Lock()
	defer probing.Unlock()
	took, err := syncTimes(ctx, d.Path)
	if err != nil {
		d.SyncFault = err.Error()
		return
	}
	slices.Sort(took)
	d.SyncSeconds = took[len(took)/2].Seconds()
}

// probeFile is the name of the file; one that a crash has left is used again.
const probeFile = "sync.probe"

func syncTimes(ctx context.Context, folder string) (took []time.Duration, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(probeFile, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), root.Remove(probeFile)) }()
	block := make([]byte, probeBytes)
	for begun := time.Now(); len(took) == 0 || len(took) < syncProbes && time.Since(begun) < probeTime && ctx.Err() == nil; {
		before := time.Now()
		if _, err := f.WriteAt(block, int64(len(took)*probeBytes)); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(before))
	}
	return took, nil
}
