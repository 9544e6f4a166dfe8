package announce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/signal"
)

const (
	// cacheInterval is the shortest time between two writes of the cache.
	cacheInterval = time.Second
	// cacheRate bounds how much is written to the cache, in bytes a second: a large
	// registry changes all the time, and its cache must not keep a disk busy.
	cacheRate = 1 << 20
)

// cacheMagic begins a cache file. The CRC-32C of the rest follows, little-endian, and
// then the rows as a GetClusterInfoResponse.
const cacheMagic = "dkv-registry-rows-1\n"

// cache is a file of the last known rows.
type cache struct {
	path string // empty: there is none
	// rows are those in the file, if known; size is its length.
	rows []*serverpb.RegionInfo
	size int
	// changed is raised when the rows have changed.
	changed signal.Signal
}

// load reads the file; a missing one has no rows.
func (c *cache) load() ([]*serverpb.RegionInfo, error) {
	if c.path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := decodeCache(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	c.rows, c.size = rows, len(content)
	return rows, nil
}

func decodeCache(content []byte) ([]*serverpb.RegionInfo, error) {
	rest, ok := bytes.CutPrefix(content, []byte(cacheMagic))
	if !ok || len(rest) < 4 {
		return nil, errors.New("it is not a file of registry rows")
	}
	sum, body := binary.LittleEndian.Uint32(rest), rest[4:]
	if crc.Sum(body) != sum {
		return nil, errors.New("its checksum is wrong")
	}
	var out serverpb.GetClusterInfoResponse
	if err := proto.Unmarshal(body, &out); err != nil {
		return nil, err
	}
	for _, r := range out.GetRegionInfos() {
		r.ChangeNumber, r.Slaves = 0, 0 // they are as old as the file
	}
	return out.GetRegionInfos(), nil
}

func encodeCache(rows []*serverpb.RegionInfo) ([]byte, error) {
	resp := &serverpb.GetClusterInfoResponse{RegionInfos: rows}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(resp)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32([]byte(cacheMagic), crc.Sum(body))
	return append(out, body...), nil
}

// run keeps the file up to date until ctx ends, and writes it a last time then.
func (c *cache) run(ctx context.Context, rows func() []*serverpb.RegionInfo, log *slog.Logger) {
	if c.path == "" {
		return
	}
	said := ""
	write := func() {
		switch err := c.write(rows()); {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			log.Warn("the registry's rows cannot be cached for the next start", "path", c.path, "error", err)
		}
	}
	defer write() // what changes in a pause
	changed := c.changed.Changed()
	write() // what changed before
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		changed = c.changed.Changed()
		write()
		if !wait(ctx, c.interval(), nil) {
			return
		}
	}
}

// interval returns the pause after a write.
func (c *cache) interval() time.Duration {
	return max(cacheInterval, time.Duration(c.size)*time.Second/cacheRate)
}

// write replaces the file if its content has changed. The numbers that change with each
// heartbeat mean nothing to the next run, and cause no write.
func (c *cache) write(rows []*serverpb.RegionInfo) error {
	if slices.EqualFunc(c.rows, rows, sameForCache) {
		return nil
	}
	content, err := encodeCache(rows)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(c.path, content); err != nil {
		return err
	}
	c.rows, c.size = rows, len(content)
	return nil
}

func sameForCache(a, b *serverpb.RegionInfo) bool {
	if a.GetSlaves() != b.GetSlaves() {
		a = proto.CloneOf(a)
		a.Slaves = b.GetSlaves()
	}
	return sameRow(a, b)
}
