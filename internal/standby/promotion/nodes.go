package promotion

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Position is how far a vBucket's copy is.
type Position struct {
	VBucket string
	History string
	Index   kv.Index
	Clock   kv.Clock
	// Lag is by how many changes the copy is known to be behind, Age how long ago it was
	// last known to be the newest.
	Lag uint64
	Age time.Duration
}

// Copies are the vBuckets of the founder.
type Copies interface {
	// Positions are in hash order.
	Positions() []Position
	// Await returns once a vBucket has reached an index.
	Await(ctx context.Context, vBucket string, index kv.Index) error
	// Seal makes the copies apply and confirm nothing of their history from now on,
	// durably. Unseal ends that. Both are repeatable.
	Seal(ctx context.Context, promotion string) error
	Unseal(ctx context.Context, promotion string) error
}

// Masters are the nodes that a promotion replaces.
type Masters interface {
	// Known are the addresses of those that are known here.
	Known() []string
	// Seal seals the vBuckets whose logs a master owns; Unseal ends that. Both are
	// repeatable. An error whose kv.Outcome is NotApplied says that nothing was sealed.
	Seal(ctx context.Context, address, promotion string) (SealedDatabase, error)
	Unseal(ctx context.Context, address, promotion string) error
}

// SealedDatabase is what a master answers that was sealed.
type SealedDatabase struct {
	// VBuckets are those whose logs it owns.
	VBuckets []SealedVBucket
	// Masters are the other masters that it knows.
	Masters []string
}

// SealedVBucket is a vBucket whose owner acknowledges no mutation after an index.
type SealedVBucket struct {
	Name, History string
	Index         kv.Index
}
