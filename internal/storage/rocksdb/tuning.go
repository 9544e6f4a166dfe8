package rocksdb

// #include "shim.h"
import "C"

import (
	"github.com/linxGnu/grocksdb"
)

// settings are RocksDB's options for a database and its column families. The
// shim keeps them: options.cc says what DKV sets, and an ini file may override
// it.
type settings struct {
	native *C.dkv_options
}

// newSettings fits the options to an engine that uses m.
func newSettings(o Options, m *Memory) *settings {
	tuning := C.dkv_tuning{
		write_buffer_bytes: C.size_t(o.WriteBufferBytes),
		arena_block_bytes:  C.size_t(m.arenaBlock),
		max_open_files:     C.int(o.MaxOpenFiles),
		background_jobs:    C.int(o.BackgroundJobs),
		engines:            C.size_t(m.engines),
	}
	return &settings{native: C.dkv_options_new(&tuning, m.cache, m.budget)}
}

// create says whether a missing database is to be created.
func (s *settings) create(database bool) {
	var flag C.int
	if database {
		flag = 1
	}
	C.dkv_options_create(s.native, flag)
}

// destroy frees the options; the database has its own copy.
func (s *settings) destroy() { C.dkv_options_free(s.native) }

// inspectionFiles is how many files a look at a database may have open.
const inspectionFiles = 256

// inspect calls look with a database that is open for reading only and has
// replayed its write-ahead log, and with RocksDB's own options, which are enough
// to read one. names are its column families.
func inspect(dir string, names []string, look func(*grocksdb.DB)) error {
	o := inspectionOptions()
	defer o.Destroy()
	each := make([]*grocksdb.Options, len(names))
	for i := range each {
		each[i] = o
	}
	db, families, err := grocksdb.OpenDbForReadOnlyColumnFamilies(o, dir, names, each, false)
	if err != nil {
		return statusTextError(err)
	}
	look(db)
	for _, cf := range families {
		cf.Destroy()
	}
	db.Close()
	return nil
}

func inspectionOptions() *grocksdb.Options {
	o := grocksdb.NewDefaultOptions()
	o.SetWALRecoveryMode(grocksdb.PointInTimeRecovery)
	o.SetMaxOpenFiles(inspectionFiles)
	o.SetInfoLogLevel(grocksdb.WarnInfoLogLevel)
	o.SetKeepLogFileNum(3)
	return o
}
