package config

import (
	"bytes"
	"strings"
	"testing"
)

// presetHost has 64 GiB of memory, and files for all connections.
func presetHost(memory Size) Host {
	host := testHost()
	host.Memory = func() Size { return memory }
	host.OpenFiles = func() int { return 1 << 20 }
	return host
}

func loadPreset(t *testing.T, memory Size, args ...string) *Config {
	t.Helper()
	inv, err := LoadOn(presetHost(memory), args, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inv.Config
}

func TestPresetDerivesSizes(t *testing.T) {
	type sizes struct {
		cache, rows, writeBuffer, inFlight, changelog Size
		connections                                   int
	}
	for _, tt := range []struct {
		args   []string
		memory Size
		want   sizes
	}{
		{nil, 64 * GiB, sizes{3 * GiB, 384 * MiB, 64 * MiB, 512 * MiB, GiB, 4096}},
		{[]string{"--preset", "standard"}, 4 * GiB, sizes{GiB, 128 * MiB, 64 * MiB, 512 * MiB, GiB, 4096}},
		{[]string{"--preset", "small"}, 64 * GiB, sizes{256 * MiB, 32 * MiB, 16 * MiB, 128 * MiB, 256 * MiB, 512}},
		{[]string{"--preset", "small"}, GiB, sizes{128 * MiB, 16 * MiB, 16 * MiB, 128 * MiB, 256 * MiB, 512}},
		{[]string{"--preset", "large"}, 64 * GiB, sizes{32 * GiB, GiB, 256 * MiB, 2 * GiB, 8 * GiB, 16_384}},
		{[]string{"--preset", "large", "--write-buffer-size", "32MiB", "--block-cache-size", "0", "--changelog-max-bytes", "0"},
			64 * GiB, sizes{0, 0, 32 * MiB, 2 * GiB, 0, 16_384}},
		{[]string{"--preset", "large", "--diskless", "--db-engine", "badger"}, 64 * GiB, sizes{32 * GiB, GiB, 256 * MiB, 2 * GiB, 64 * MiB, 16_384}},
	} {
		c := loadPreset(t, tt.memory, tt.args...)
		got := sizes{c.Storage.BlockCacheSize, c.Storage.RowCacheSize, c.Storage.WriteBufferSize, c.Limits.MemoryInFlight, c.Changelog.MaxBytes, c.Limits.Connections}
		if got != tt.want {
			t.Errorf("%q with %v: %+v, want %+v", tt.args, tt.memory, got, tt.want)
		}
	}
}

// What a small node can take is what the documentation promises: caches, write buffers, messages
// and results, and Go's heap beside them.
func TestSmallPresetFitsIntoAGibibyte(t *testing.T) {
	const besides = 320 * MiB // internal/app: the heap that no key bounds
	s := sizingOf(PresetSmall)
	if sum := s.cacheMost + s.writeBuffer + 2*s.inFlight + besides; sum > GiB {
		t.Errorf("it may take %v", sum)
	}
}

func TestPrintedConfigShowsWhatThePresetDerives(t *testing.T) {
	c := loadPreset(t, 64*GiB, "--preset", "large", "--max-memory-in-flight", "1GiB")
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"preset: large # --preset\n", "write-buffer-size: 256MiB # derived\n", "block-cache-size: 32GiB # derived\n",
		"max-memory-in-flight: 1GiB # --max-memory-in-flight\n", "max-connections: 16384 # derived\n", "changelog-max-bytes: 8GiB # derived\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &out)
		}
	}
}

func TestUnknownPresetIsRejected(t *testing.T) {
	if _, err := LoadOn(presetHost(GiB), []string{"--preset", "huge"}, nil); errorKind(err) != valueError || !strings.Contains(err.Error(), "small") {
		t.Error(err)
	}
}
