package chaos

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/storage"
)

// The programs here are dkvsrv with a built-in fault, to show that the checks find it.
// dkvsrv itself has no option for these faults.

// ignoreSyncs lets the system calls that make data durable succeed without any effect,
// for all threads and the rest of the process's life.
func ignoreSyncs() error {
	calls := []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_MSYNC, unix.SYS_SYNC_FILE_RANGE, unix.SYS_SYNCFS, unix.SYS_SYNC}
	const numberOffset = 0 // of struct seccomp_data
	const retErrno, retAllow = 0x00050000, 0x7fff0000
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: numberOffset}}
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jt: uint8(len(calls) - i + 1)})
	}
	filter = append(filter,
		// To write and sync at once is not supported, so that it is done in two calls.
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PWRITEV2, Jt: 2},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retErrno}, // the number 0: success
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retErrno | uint32(unix.EOPNOTSUPP)})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up privileges: %w", err)
	}
	const setModeFilter, allThreads = 1, 1
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, allThreads, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	return nil
}

// crashKey is the key at which splitEngine ends its process. Like all keys with its prefix
// it is expected in the change logs once it is acknowledged.
const crashKey = onceKeys + "crash"

// splitEngine writes change records in a batch of their own, after their data, and ends
// its process between the two writes of the batch with crashKey.
type splitEngine struct{ storage.Engine }

func (e splitEngine) Write(b *storage.Batch, sync bool) error {
	var data, records storage.Batch
	crash := false
	if err := b.Each(func(op storage.Op) error {
		to := &data
		if op.Space == storage.Changelog {
			to = &records
		}
		crash = crash || op.Space == storage.Data && string(op.Key) == crashKey
		switch op.Kind {
		case storage.OpPut:
			to.Put(op.Space, op.Key, op.Value)
		case storage.OpDelete:
			to.Delete(op.Space, op.Key)
		default:
			to.DeleteRange(op.Space, op.Key, op.Value)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := e.Engine.Write(&data, sync); err != nil {
		return err
	}
	if crash {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return e.Engine.Write(&records, sync)
}

// clockSkew is the environment variable that says how far a node's clock is ahead.
const clockSkew = "CHAOS_CLOCK_SKEW"

// localClockEngine decides by the node's own clock whether a key has expired, like a
// state machine that does not use the log's clock.
type localClockEngine struct {
	storage.Engine
	skew time.Duration
}

func newLocalClockEngine(e storage.Engine) storage.Engine {
	skew, err := time.ParseDuration(os.Getenv(clockSkew))
	if err != nil {
		panic(err)
	}
	return localClockEngine{e, skew}
}

// expired reports whether a key, whose name says when it expires, has done so here.
func (e localClockEngine) expired(key []byte) bool {
	rest, is := bytes.CutPrefix(key, []byte(expiringKeys))
	at, _, _ := bytes.Cut(rest, []byte("-"))
	seconds, err := strconv.ParseInt(string(at), 10, 64)
	return is && err == nil && !time.Now().Add(e.skew).Before(time.Unix(seconds, 0))
}

func (e localClockEngine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	values, err := e.Engine.MultiGet(s, keys)
	for i := range values {
		if s == storage.Data && e.expired(keys[i]) {
			values[i] = nil
		}
	}
	return values, err
}
