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
	// Digest is that of the last change, and Sealed the promotion that has sealed the copy.
	// Only Reached and Set return them.
	Digest uint64
	Sealed string
	// Confirmed is up to where the node has confirmed changes as received: above Index if its
	// disk could not take them. Only Reached and Set return it.
	Confirmed kv.Index
}

// Copies are the vBuckets of the founder.
type Copies interface {
	// Positions are in hash order.
	Positions() []Position
	// Await returns once a vBucket has reached an index.
	Await(ctx context.Context, vBucket string, index kv.Index) error
	// Seal makes the copies apply and confirm nothing of their history from now on,
	// durably. A kv.Unavailable error means that what was confirmed is not applied yet, so that
	// nothing was sealed; it is worth another attempt. Unseal ends that. Both are repeatable.
	Seal(ctx context.Context, promotion string) error
	Unseal(ctx context.Context, promotion string) error
	// Reached returns the positions with their last changes.
	Reached(ctx context.Context) ([]Position, error)
	// CatchUp brings a sealed copy to an index, by the changes of the node at an address.
	CatchUp(ctx context.Context, promotion, vBucket, from string, upTo kv.Index) error
}

// Node is one of the nodes that a promotion makes masters together.
type Node struct {
	// Replica is its number in the new cluster, from 1.
	Replica uint64 `json:"replica"`
	// Address is where it serves gRPC, host:port, URL its Raft address, and Disk the id of
	// its disk.
	Address string `json:"address"`
	URL     string `json:"url"`
	Disk    string `json:"disk"`
}

// Set reaches the other nodes that a promotion makes masters. All calls are repeatable.
type Set interface {
	// Self returns what the founder is, and Format the format of the cluster's log.
	Self() (Node, error)
	Format() uint32
	// Look returns what the node at an address is and how far its copies are, or why it
	// cannot become a master together with the founder.
	Look(ctx context.Context, address string) (Node, []Position, error)
	// Seal is Copies.Seal and then Reached, Unseal is Copies.Unseal.
	Seal(ctx context.Context, address, promotion string) ([]Position, error)
	Unseal(ctx context.Context, address, promotion string) error
	// CatchUp is Copies.CatchUp; it returns the positions then.
	CatchUp(ctx context.Context, address, promotion, vBucket, from string, upTo kv.Index) ([]Position, error)
	// TakeRequests has a node fetch the remembered requests of the founder.
	TakeRequests(ctx context.Context, address, promotion, founder string) error
	// Become tells a node that the promotion is decided.
	Become(ctx context.Context, address string, r Record) error
}

// Masters are the nodes that a promotion replaces.
type Masters interface {
	// Known are the addresses of those that are known here.
	Known() []string
	// Seal seals the vBuckets whose logs a master owns, and confirms the seals of the same
	// promotion that there are; Unseal ends them at any member. Both are repeatable. An error whose kv.Outcome is NotApplied says that nothing was sealed.
	Seal(ctx context.Context, address, promotion string) (SealedDatabase, error)
	Unseal(ctx context.Context, address, promotion string) error
	// Keepers returns who keeps the logs of a master, as it knows them. A kv.Precondition says
	// that it does not stop for a promotion.
	Keepers(ctx context.Context, address, promotion string) (StoppedDatabase, error)
	// Stop takes a master out of its logs for a promotion, and returns what it knows of them
	// when it takes no part in them any more. Resume ends that. Both are repeatable.
	Stop(ctx context.Context, address, promotion string) (StoppedDatabase, error)
	Resume(ctx context.Context, address, promotion string) error
}

// SealedDatabase is what a master answers that was sealed.
type SealedDatabase struct {
	// VBuckets are those whose logs it owns, or whose seals it confirms.
	VBuckets []SealedVBucket
	// Masters are the other masters that it knows.
	Masters []string
	// Leased reports whether the database has a record in the registry.
	Leased bool
}

// SealedVBucket is a vBucket whose owner acknowledges no mutation after an index.
type SealedVBucket struct {
	Name, History string
	Index         kv.Index
	// Digest is that of the newest change up to there; 0 if that is not known.
	Digest uint64
}
