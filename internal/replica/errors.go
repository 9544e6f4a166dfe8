package replica

import (
	"context"
	"errors"
	"syscall"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Errors with which a replica rejects requests, because of its role or its condition.
var (
	// ErrClosed rejects requests to a replica that is closed.
	ErrClosed = kv.Errorf(kv.Unavailable, "the node is shutting down")
	// ErrRestoring rejects mutations while a restore replaces the state.
	ErrRestoring = kv.Errorf(kv.Unavailable, "a restore is under way; retry when it is done")
	// ErrRemoved rejects requests to a replica that was removed from its log.
	ErrRemoved = kv.ErrRemoved
	// ErrPaused rejects mutations while an operator has stopped them.
	ErrPaused = kv.Errorf(kv.Precondition, "writes are paused; dkvctl -resumeWrites ends the pause")
	// ErrSealed rejects mutations and linearizable reads while a promotion has sealed the
	// log; see Sealed.
	ErrSealed = errors.New("the database is being promoted on other nodes")
	// ErrNotOwner rejects a request that only the owner of the log serves.
	ErrNotOwner = kv.Errorf(kv.NotOwner, "another node owns the log, or none does at present")
)

// Sealed returns the error of a request that a seal for a promotion rejects, an ErrSealed.
func Sealed(promotion string) error {
	return kv.Errorf(kv.Unavailable, "%w (promotion %s): use the new masters, or end a promotion that was given up (dkvctl -promote -abandon)", ErrSealed, promotion)
}

// KindOf classifies an error of storage, the state machine or the operating system.
func KindOf(err error) kv.Kind {
	var known *kv.Error
	switch {
	case errors.As(err, &known):
		return known.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, fsm.ErrClosed), errors.Is(err, storage.ErrClosed):
		return kv.Unavailable
	case storage.Shortage(err) != nil:
		return kv.Exhausted
	case errors.Is(err, storage.ErrBadOptions), errors.Is(err, storage.ErrGone):
		return kv.Precondition
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, chunks.ErrBadSnapshot):
		return kv.Corrupt
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTDIR):
		return kv.Precondition // a path that an operator has to change or to grant access to
	default:
		return kv.Internal
	}
}

// ReadError turns an error of a read, such as that of a View's iterator, into a kv.Error.
func ReadError(err error) error {
	if err == nil {
		return nil
	}
	var known *kv.Error
	if errors.As(err, &known) {
		return err
	}
	return kv.Errorf(KindOf(err), "read: %w", err)
}
