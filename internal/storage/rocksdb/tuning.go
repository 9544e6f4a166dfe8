package rocksdb

// #include "shim.h"
import "C"

import (
	"runtime"

	"github.com/linxGnu/grocksdb"

	"github.com/dkvdb/dkv/internal/storage"
)

// settings are RocksDB's options for a database and its column families, in
// the order of the spaces.
type settings struct {
	db     *grocksdb.Options
	spaces [storage.Spaces]*grocksdb.Options
}

// newSettings tunes RocksDB for what DKV keeps in each space. Everything here
// can be overridden by an ini file.
func newSettings(o Options, m *Memory) (*settings, error) {
	s := &settings{db: databaseOptions(o, m)}
	// Small reads at random places of many keys.
	s.spaces[storage.Data] = spaceOptions(o.WriteBufferBytes/2, 8<<10, m)
	// Small entries that are written and removed in about the same order.
	s.spaces[storage.Expiry] = spaceOptions(o.WriteBufferBytes/4, 4<<10, m)
	// Written in order, read in order and trimmed from the front: large blocks
	// compress well and cost nothing.
	s.spaces[storage.Changelog] = spaceOptions(o.WriteBufferBytes/2, 32<<10, m)
	// A few keys, which every batch overwrites.
	s.spaces[storage.Meta] = spaceOptions(min(o.WriteBufferBytes/4, 8<<20), 4<<10, m)
	s.spaces[storage.Meta].SetCompression(grocksdb.NoCompression)
	s.spaces[storage.Meta].SetBottommostCompression(grocksdb.NoCompression)
	if err := s.setByName(); err != nil {
		s.destroy()
		return nil, err
	}
	return s, nil
}

// setByName sets what the binding has no function for.
func (s *settings) setByName() error {
	// Room that is allocated ahead for a log is lost to everybody else: for
	// each vBucket about as much as its write buffer.
	if err := setOption(s.db, C.DKV_DB_SECTION, "allow_fallocate", "false"); err != nil {
		return err
	}
	// Only in Data is a key asked for that may not be there. (The binding's own
	// filter stands in RocksDB's OPTIONS files without its size; feeding such a
	// file back would switch it off.)
	return setOption(s.spaces[storage.Data], C.DKV_TABLE_SECTION, "filter_policy", "bloomfilter:10:false")
}

// destroy frees the options; the database has its own copy.
func (s *settings) destroy() {
	s.db.Destroy()
	for _, o := range s.spaces {
		o.Destroy()
	}
}

func databaseOptions(o Options, m *Memory) *grocksdb.Options {
	db := grocksdb.NewDefaultOptions()
	db.SetParanoidChecks(true)
	// Open has checked before that this loses nothing durable.
	db.SetWALRecoveryMode(grocksdb.PointInTimeRecovery)
	// Without a limit, a space that is seldom written keeps old logs alive and
	// recovery long.
	db.SetMaxTotalWalSize(uint64(2 * o.WriteBufferBytes))
	C.dkv_options_set_write_budget((*C.rocksdb_options_t)(handle(db)), m.budget)
	runtime.KeepAlive(db)

	db.SetMaxBackgroundJobs(o.BackgroundJobs)
	db.SetMaxOpenFiles(o.MaxOpenFiles)
	// Even out the writing of large files, so that a log's fsync never waits
	// behind a whole one.
	db.SetBytesPerSync(1 << 20)
	// Files that a closing iterator held alive are deleted in the background.
	db.AvoidUnnecessaryBlockingIO(true)

	db.SetInfoLogLevel(grocksdb.WarnInfoLogLevel)
	db.SetKeepLogFileNum(3)
	db.SetMaxLogFileSize(1 << 20)
	db.SetStatsDumpPeriodSec(0)
	db.SetStatsPersistPeriodSec(0)
	return db
}

// spaceOptions is what all spaces have in common. writeBuffer is the size, in
// bytes, at which what was written becomes a sorted file; block is that of a
// block of such a file before compression.
func spaceOptions(writeBuffer int64, block int, m *Memory) *grocksdb.Options {
	cf := grocksdb.NewDefaultOptions()
	writeBuffer = max(writeBuffer, 256<<10)
	cf.SetWriteBufferSize(uint64(writeBuffer))
	cf.SetArenaBlockSize(uint64(min(m.arenaBlock, writeBuffer/8)))
	cf.SetMaxWriteBufferNumber(4)
	cf.SetLevelCompactionDynamicLevelBytes(true)
	cf.SetCompression(grocksdb.LZ4Compression)
	cf.SetBottommostCompression(grocksdb.ZSTDCompression)

	table := grocksdb.NewDefaultBlockBasedTableOptions()
	defer table.Destroy()
	table.SetFormatVersion(5)
	table.SetBlockSize(block)
	table.SetBlockCache(m.cache)
	// Indexes and filters count against the cache, so that memory is bounded
	// whatever the size of the data. Those of level 0, which every read
	// visits, stay.
	table.SetCacheIndexAndFilterBlocks(true)
	table.SetCacheIndexAndFilterBlocksWithHighPriority(true)
	table.SetPinL0FilterAndIndexBlocksInCache(true)
	cf.SetBlockBasedTableFactory(table)
	return cf
}
