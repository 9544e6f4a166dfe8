// Package filestream writes the files of a folder to a stream, and makes a folder from one:
// the content of a Raft snapshot. The format is
//
//	magic    8 bytes, the last of which is the format, a digit
//	total    the bytes of all files (8, big endian)
//	file*    length of the name (2), name, size (8), content, CRC-32C of it (4)
//	end      a name of length 0
//
// Sizes come first, so that the receiver knows whether it has room.
package filestream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/time/rate"

	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/storage"
)

// magic begins a stream. Its last byte is the format, a digit.
var magic = [8]byte{'D', 'K', 'V', 'f', 'i', 'l', 'e', '1'}

const (
	// BufferSize is how many bytes are read and written at a time.
	BufferSize  = 256 << 10
	maxFileName = 255
)

// Write streams the regular files of dir, which must not change meanwhile, at most as fast
// as limit allows; nil is no limit.
func Write(ctx context.Context, w io.Writer, dir string, limit *rate.Limiter) error {
	entries, total, err := Files(dir)
	if err != nil {
		return err
	}
	s := fileWriter{ctx: ctx, w: bufio.NewWriterSize(w, BufferSize), limit: limit, buf: make([]byte, BufferSize)}
	s.write(magic[:])
	s.write(binary.BigEndian.AppendUint64(nil, total))
	for _, e := range entries {
		if err := s.file(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	s.write([]byte{0, 0})
	if s.err != nil {
		return s.err
	}
	return s.w.Flush()
}

// Files returns the files of dir and their total size. It fails if dir contains anything
// else.
func Files(dir string) (entries []os.DirEntry, total uint64, err error) {
	entries, err = os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		if !fi.Mode().IsRegular() {
			return nil, 0, fmt.Errorf("%s is no regular file", filepath.Join(dir, e.Name()))
		}
		total += uint64(fi.Size())
	}
	return entries, total, nil
}

type fileWriter struct {
	ctx   context.Context
	w     *bufio.Writer
	limit *rate.Limiter
	buf   []byte
	err   error
}

func (s *fileWriter) write(p []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(p)
	}
}

func (s *fileWriter) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	s.write(binary.BigEndian.AppendUint16(nil, uint16(len(name))))
	s.write([]byte(name))
	s.write(binary.BigEndian.AppendUint64(nil, uint64(fi.Size())))
	sum := crc.New()
	for left := fi.Size(); left > 0; {
		p := s.buf[:min(left, int64(len(s.buf)))]
		if _, err := io.ReadFull(f, p); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := s.pause(len(p)); err != nil {
			return err
		}
		sum.Write(p)
		s.write(p)
		left -= int64(len(p))
	}
	s.write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return s.err
}

// pause waits until n more bytes may be sent.
func (s *fileWriter) pause(n int) error {
	if s.limit == nil {
		return s.ctx.Err()
	}
	return s.limit.WaitN(s.ctx, n)
}

// Read makes the folder dir with the files of a stream, durably. First it calls fits, whose
// error says that there is no room for so many bytes. An error may wrap chunks.ErrBadSnapshot.
func Read(ctx context.Context, r io.Reader, dir string, fits func(uint64) error) error {
	br := bufio.NewReaderSize(r, BufferSize)
	var head [16]byte
	if _, err := io.ReadFull(br, head[:]); err != nil {
		return bad("it has no header: %w", err)
	}
	if err := checkMagic([8]byte(head[:8])); err != nil {
		return err
	}
	if err := fits(binary.BigEndian.Uint64(head[8:])); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	buf := make([]byte, BufferSize)
	for {
		last, err := readFile(ctx, br, dir, buf)
		if err != nil {
			return err
		}
		if last {
			return durable.SyncDir(dir)
		}
	}
}

// checkMagic returns a storage.ErrNewer if the first 8 bytes of a stream have a newer
// format, and an chunks.ErrBadSnapshot if they are anything else than magic.
func checkMagic(got [8]byte) error {
	const last = len(magic) - 1
	switch format := got[last]; {
	case got == magic:
		return nil
	case [last]byte(got[:last]) == [last]byte(magic[:last]) && format > magic[last] && format <= '9':
		return storage.Newer("the Raft snapshot", uint64(format-'0'), uint64(magic[last]-'0'))
	default:
		return bad("it begins with %q, not with %q", got, magic)
	}
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", chunks.ErrBadSnapshot, fmt.Errorf(format, args...))
}

// readFile reads one file of the stream; last reports that there is none left.
func readFile(ctx context.Context, r io.Reader, dir string, buf []byte) (last bool, err error) {
	var n [8]byte
	if _, err := io.ReadFull(r, n[:2]); err != nil {
		return false, bad("it ends between two files: %w", err)
	}
	length := binary.BigEndian.Uint16(n[:2])
	if length == 0 {
		return true, nil
	}
	if length > maxFileName {
		return false, bad("a file name of %d bytes", length)
	}
	name := make([]byte, length)
	if _, err := io.ReadFull(r, name); err != nil {
		return false, bad("it ends in a file's name: %w", err)
	}
	if !filepath.IsLocal(string(name)) || filepath.Base(string(name)) != string(name) {
		return false, bad("a file is named %q", name)
	}
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return false, bad("it ends before %s: %w", name, err)
	}
	path := filepath.Join(dir, string(name))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	err = readContent(ctx, r, f, binary.BigEndian.Uint64(n[:]), buf)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return false, nil
}

func readContent(ctx context.Context, r io.Reader, w io.Writer, size uint64, buf []byte) error {
	sum := crc.New()
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(left, uint64(len(buf)))]
		if _, err := io.ReadFull(r, p); err != nil {
			return bad("it is cut short by %d bytes: %w", left, err)
		}
		sum.Write(p)
		if _, err := w.Write(p); err != nil {
			return err
		}
		left -= uint64(len(p))
	}
	var check [4]byte
	if _, err := io.ReadFull(r, check[:]); err != nil {
		return bad("it has no checksum: %w", err)
	}
	if binary.BigEndian.Uint32(check[:]) != sum.Sum32() {
		return bad("it fails its checksum")
	}
	return nil
}
