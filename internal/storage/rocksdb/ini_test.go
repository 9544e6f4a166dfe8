package rocksdb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// openINI opens an engine with an ini file of the given text.
func openINI(t *testing.T, text string) (*Engine, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw.ini")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := testOptions(t.TempDir())
	o.INI = path
	e, err := Open(o)
	if err == nil {
		t.Cleanup(func() { _ = e.Close() })
	}
	return e, err
}

// effective returns the options that RocksDB says it runs with, as
// "section name=value" lines.
func effective(t *testing.T, e *Engine) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(newestOptions(t, e.dir))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		lines[section+" "+line] = true
	}
	return lines
}

// newestOptions is the path of the last OPTIONS file that RocksDB wrote.
func newestOptions(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "OPTIONS-??????"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no OPTIONS file: %v", err)
	}
	return files[len(files)-1]
}

func TestINI(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", nil},
		{"comments", "# nothing\n\n   # more\n", nil},
		{"sections", `
[Version]
  rocksdb_version=7.8.3
[DBOptions]
  max_background_jobs=3   # a comment
  bytes_per_sync = 2M
[CFOptions "default"]
  write_buffer_size=3M
[TableOptions/BlockBasedTable "default"]
  block_size=16K
[CFOptions "changelog"]
  compression=kZSTD
[TableOptions/BlockBasedTable "meta"]
  filter_policy=bloomfilter:7:false
`, []string{
			"[DBOptions] max_background_jobs=3",
			"[DBOptions] bytes_per_sync=2097152",
			`[CFOptions "default"] write_buffer_size=3145728`,
			`[TableOptions/BlockBasedTable "default"] block_size=16384`,
			`[CFOptions "changelog"] compression=kZSTD`,
			// What is not named stays.
			"[DBOptions] log_readahead_size=16384",
			`[CFOptions "default"] compression=kLZ4Compression`,
			`[TableOptions/BlockBasedTable "changelog"] block_size=32768`,
			`[TableOptions/BlockBasedTable "default"] format_version=5`,
		}},
		{"without sections", "max_background_jobs=3\nmax_write_buffer_number=5\nblock_size=12K\n", []string{
			"[DBOptions] max_background_jobs=3",
			`[CFOptions "default"] max_write_buffer_number=5`,
			`[CFOptions "meta"] max_write_buffer_number=5`,
			`[TableOptions/BlockBasedTable "default"] block_size=12288`,
			`[TableOptions/BlockBasedTable "expiry"] block_size=12288`,
		}},
		{"small memtables", "[CFOptions \"default\"]\nwrite_buffer_size=64K\n[CFOptions \"expiry\"]\nwrite_buffer_size=1\n", []string{
			`[CFOptions "default"] write_buffer_size=65536`,
			`[CFOptions "default"] arena_block_size=8192`,
		}},
		{"nested", "[CFOptions \"default\"]\nblock_based_table_factory={block_size=20K;}\n", []string{
			`[TableOptions/BlockBasedTable "default"] block_size=20480`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := openINI(t, c.text)
			if err != nil {
				t.Fatal(err)
			}
			write(t, e, true, "k", "v")
			if get(t, e, "k") != "v" {
				t.Error("a write does not read back")
			}
			got := effective(t, e)
			for _, line := range c.want {
				if !got[line] {
					t.Errorf("RocksDB does not run with %s", line)
				}
			}
		})
	}
}

// The file that RocksDB itself writes is one that the engine takes, and
// changes nothing.
func TestINITakesRocksDBsOwn(t *testing.T) {
	e := open(t, testOptions(t.TempDir()))
	text, err := os.ReadFile(newestOptions(t, e.dir))
	if err != nil {
		t.Fatal(err)
	}
	again, err := openINI(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	want, got := effective(t, e), effective(t, again)
	for line := range want {
		if !got[line] && !strings.Contains(line, "session_id") && !strings.Contains(line, "db_host_id") {
			t.Errorf("lost: %s", line)
		}
	}
}

func TestINIErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown option", "[DBOptions]\nmax_jobs=3\n", `raw.ini:2: RocksDB knows no option "max_jobs" here`},
		{"unknown everywhere", "\n\nmax_jobs=3\n", `raw.ini:3: RocksDB knows no option "max_jobs" here`},
		{"option of another section", "[DBOptions]\nwrite_buffer_size=1M\n", `raw.ini:2: RocksDB knows no option "write_buffer_size" here`},
		{"option of another section", "[CFOptions \"default\"]\nmax_background_jobs=3\n", `raw.ini:2: RocksDB knows no option "max_background_jobs" here`},
		{"bad number", "[DBOptions]\nmax_background_jobs=many\n", "raw.ini:2: max_background_jobs=many: "},
		{"bad number anywhere", "max_background_jobs=many\n", "raw.ini:1: max_background_jobs=many: "},
		{"bad enumeration", "[CFOptions \"default\"]\ncompression=kBest\n", "raw.ini:2: compression=kBest: "},
		{"unknown section", "[DBOption]\n", "raw.ini:1: unknown section [DBOption]"},
		{"other table format", "[TableOptions/PlainTable \"default\"]\n", "raw.ini:1: unknown section [TableOptions/PlainTable]"},
		{"unknown family", "[CFOptions \"data\"]\n", `raw.ini:1: section [CFOptions] names column family "data": use one of default, expiry, changelog, meta`},
		{"open bracket", "[DBOptions\n", "raw.ini:1: section header [DBOptions has no closing bracket"},
		{"no value", "[DBOptions]\nmax_background_jobs\n", `raw.ini:2: "max_background_jobs" is neither a [section] nor name=value`},
		{"no name", "=3\n", `raw.ini:1: "=3" is neither`},
		{"comparator", "[CFOptions \"default\"]\ncomparator=rocksdb.ReverseBytewiseComparator\n", "raw.ini:2: comparator=rocksdb.ReverseBytewiseComparator: it cannot be changed: keys are ordered by their bytes"},
		{"checksum", "[TableOptions/BlockBasedTable \"default\"]\nchecksum=kNoChecksum\n", "it cannot be changed: damage must be reported"},
		{"nested checksum", "[CFOptions \"default\"]\nblock_based_table_factory={checksum=kNoChecksum;}\n", "it cannot be changed: damage must be reported"},
		{"cache", "[TableOptions/BlockBasedTable \"default\"]\nblock_cache=1M\n", "it cannot be changed: the block cache has a setting of its own"},
		{"recovery", "wal_recovery_mode=kSkipAnyCorruptedRecords\n", "it cannot be changed: recovery checks the log on its own"},
		{"visibility", "unordered_write=true\n", "it cannot be changed: views need"},
		{"merge operator", "[CFOptions \"meta\"]\nmerge_operator=uint64add\n", "it cannot be changed: the engine has none"},
		{"table format", "[CFOptions \"meta\"]\ntable_factory=PlainTable\n", "it cannot be changed: the table format is BlockBasedTable"},
		{"memtable of one block", "[CFOptions \"meta\"]\narena_block_size=1G\n", "it cannot be changed: a memtable would be full before it holds anything"},
		{"loss of the oldest", "[CFOptions \"default\"]\ncompaction_style=kCompactionStyleFIFO\n", "it cannot be changed: nothing may vanish but by a write"},
		{"hints", "memtable_insert_with_hint_prefix_extractor=rocksdb.CappedPrefix.0\n", "it cannot be changed: deletions of ranges cannot have hints"},
		{"level without room", "max_bytes_for_level_base=1\n", "it cannot be changed: a level has room for 1 MiB at least"},
		{"statistics", "persist_stats_to_disk=true\n", "it cannot be changed: the folder has no place for statistics"},
		{"mapped writes", "allow_mmap_writes=true\n", "it cannot be changed: a write behind the end of a file would end the process"},
		{"binary", "\x00\x01\x02", "is neither a [section] nor name=value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := openINI(t, c.text)
			if !errors.Is(err, storage.ErrBadOptions) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
	o := testOptions(t.TempDir())
	o.INI = filepath.Join(t.TempDir(), "missing.ini")
	if _, err := Open(o); !errors.Is(err, storage.ErrBadOptions) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

// Changes are trimmed soon, so they are compressed once: a file whose compression differs in
// the last level would be rewritten on its way there, and not moved.
func TestChangesAreCompressedOnce(t *testing.T) {
	got := effective(t, open(t, testOptions(t.TempDir())))
	for _, line := range []string{
		`[CFOptions "changelog"] compression=kLZ4Compression`,
		`[CFOptions "changelog"] bottommost_compression=kDisableCompressionOption`,
		`[CFOptions "default"] bottommost_compression=kZSTD`,
	} {
		if !got[line] {
			t.Errorf("RocksDB does not run with %s", line)
		}
	}
}
