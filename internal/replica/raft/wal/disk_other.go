//go:build !linux

package wal

func (f osFile) writeSync(parts [][]byte, at int64) error {
	for _, p := range parts {
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
		at += int64(len(p))
	}
	return f.Sync()
}
