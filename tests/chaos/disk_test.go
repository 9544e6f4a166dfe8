package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/testkit"
)

// disk is a file system of its own, in a file, that can lose its power.
type disk struct {
	image, path string
}

// diskSize is that of a sparse file: only what is written takes space on the host.
const diskSize = 512 << 20

// newDisk makes a file system and mounts it. During a test only a sync writes its
// journal.
func newDisk(t *testing.T) *disk {
	t.Helper()
	dir := t.TempDir()
	d := &disk{image: filepath.Join(dir, "image"), path: filepath.Join(dir, "disk")}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	err = command("mkfs.ext4", "-q", "-F", d.image)
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		testkit.SkipFault(t, "power loss", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (d *disk) mount() error {
	return command("mount", "-o", "loop,commit=300", d.image, d.path)
}

// flush makes durable what is on the disk now.
func (d *disk) flush() error {
	return d.with(func(fd int) error { return unix.Syncfs(fd) })
}

// From linux/fs.h and ext4.h.
const (
	fsIocShutdown = 0x8004587d
	noLogFlush    = 2
)

// losePower drops everything that no sync has made durable: from here on the file system
// fails, and its journal is not written.
func (d *disk) losePower() error {
	return d.with(func(fd int) error {
		how := uint32(noLogFlush)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocShutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
			return fmt.Errorf("shut the file system down: %w", errno)
		}
		return nil
	})
}

// recover mounts the disk again, as it was when the power went. No process may have
// a file of it open.
func (d *disk) recover() error {
	if err := unix.Unmount(d.path, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return d.mount()
}

func (d *disk) with(f func(fd int) error) error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(int(dir.Fd()))
}
