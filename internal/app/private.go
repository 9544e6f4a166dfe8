package app

import (
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// private is the umask of dkvsrv: only its own user may read what it writes.
const private = 0o077

// keepPrivate makes the files of this process readable for its own user only, whatever
// umask it was started with, and prevents core dumps, which would hold keys, tokens and
// data in the clear. GOTRACEBACK=crash asks for core dumps, and then they stay as they are.
func keepPrivate() error {
	unix.Umask(private)
	if os.Getenv("GOTRACEBACK") == "crash" {
		return nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	limit.Cur = 0
	return unix.Setrlimit(unix.RLIMIT_CORE, &limit)
}

// warnOfCores logs that core dumps could not be prevented.
func warnOfCores(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("core dumps cannot be prevented, and would hold keys and data; set ulimit -c 0", "error", err)
	}
}
