package config

// Preset is the size of host that unset keys are derived for.
type Preset string

// The presets.
const (
	// PresetSmall is for a host with little memory, or one that other programs share: the
	// node takes up to 1 GiB.
	PresetSmall Preset = "small"
	// PresetStandard is for a host of any size that other programs may share.
	PresetStandard Preset = "standard"
	// PresetLarge is for a large host that serves nothing else.
	PresetLarge Preset = "large"
)

// sizing is what a preset derives. Each part is bounded, so that the sum is known: caches, write
// buffers, twice the memory in flight, and less than half a GiB for everything else.
type sizing struct {
	// cachePart is the part of memory that the block cache takes, one in so many, up to
	// cacheMost.
	cachePart, cacheMost Size
	// writeBuffer trades memory, and the time to replay it after a crash, for fewer and
	// larger flushes.
	writeBuffer Size
	// inFlight has room for the largest requests (max-message-size) of several
	// connections.
	inFlight Size
	// changelog is on the disk. It decides for how long a slave may be away.
	changelog Size
	// connections take some tens of KiB each.
	connections int
}

// sizingOf returns what a preset derives; an unknown one is the standard.
func sizingOf(p Preset) sizing {
	switch p {
	case PresetSmall:
		return sizing{cachePart: 8, cacheMost: 256 * MiB, writeBuffer: 16 * MiB, inFlight: 128 * MiB, changelog: 256 * MiB, connections: 512}
	case PresetLarge:
		return sizing{cachePart: 2, cacheMost: anySize, writeBuffer: 256 * MiB, inFlight: 2 * GiB, changelog: 8 * GiB, connections: 16_384}
	default:
		return sizing{cachePart: 4, cacheMost: 3 * GiB, writeBuffer: 64 * MiB, inFlight: 512 * MiB, changelog: GiB, connections: 4096}
	}
}

// cacheFor returns the block cache for a machine with the given memory; 0 is unknown.
func (s sizing) cacheFor(memory Size) Size {
	if memory <= 0 {
		return min(cacheOfUnknown, s.cacheMost)
	}
	return min(memory/s.cachePart, s.cacheMost)
}

// LeastRowCache is the least part of a block cache that keeps whole pairs.
const LeastRowCache = MiB

// rowCacheFor returns the part of a block cache that keeps whole pairs: none of a small one.
func rowCacheFor(cache Size) Size {
	if part := min(cache/8, GiB); part >= LeastRowCache {
		return part
	}
	return 0
}

// derivePreset fills the sizes that the preset decides.
func (c *Config) derivePreset(host Host) {
	s := sizingOf(c.Preset)
	// An explicit 0 disables the cache.
	if c.Storage.BlockCacheSize == 0 && !c.IsSet("block-cache-size") {
		c.Storage.BlockCacheSize = s.cacheFor(host.Memory())
		c.derived("block-cache-size")
	}
	if !c.IsSet("row-cache-size") {
		c.Storage.RowCacheSize = rowCacheFor(c.Storage.BlockCacheSize)
		c.derived("row-cache-size")
	}
	if c.Storage.WriteBufferSize == 0 {
		c.Storage.WriteBufferSize = s.writeBuffer
		c.derived("write-buffer-size")
	}
	if c.Limits.MemoryInFlight == 0 {
		c.Limits.MemoryInFlight = s.inFlight
		c.derived("max-memory-in-flight")
	}
	c.deriveChangelog(s)
	c.deriveConnections(host, s)
}
