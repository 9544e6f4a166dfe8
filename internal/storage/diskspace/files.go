package diskspace

import (
	"io/fs"
	"path/filepath"
)

// FilesIn returns how many bytes the files below a folder have.
func FilesIn(folder string) (bytes uint64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += uint64(info.Size())
		}
		return err
	})
	return bytes, err
}
