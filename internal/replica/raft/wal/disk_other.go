//go:build !linux

package wal

func (f osFile) writeSync(parts [][]byte, at int64) error { return f.writeThenSync(parts, at) }
