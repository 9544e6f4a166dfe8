package fsm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// ContentHash is a hash of the keyspace at one index.
type ContentHash struct {
	Index kv.Index
	// Sum is the SHA-256 of all keys, expiry times and values in key order.
	Sum  [sha256.Size]byte
	Keys uint64
}

// hashStep is how many bytes are hashed at once.
const hashStep = 256 << 10

// Hash computes the ContentHash of the view. Expired keys count until the log has removed
// them, since replicas agree on what the log says at an index and not on what a clock hides.
func (v *View) Hash(ctx context.Context) (ContentHash, error) {
	h := sha256.New()
	out := ContentHash{Index: v.Index()}
	it := v.walk(storage.Data, storage.Range{Bulk: true})
	defer it.close()
	task.Step(ctx, "hashes all keys", task.Keys, v.EstimatedKeys())
	var buf []byte
	counted := uint64(0)
	for it.next() {
		buf = binary.AppendUvarint(buf, uint64(len(it.key)))
		buf = append(buf, it.key...)
		buf = binary.AppendUvarint(buf, uint64(len(it.value)))
		buf = append(buf, it.value...)
		out.Keys++
		if len(buf) >= hashStep {
			h.Write(buf)
			buf = buf[:0]
			task.Add(ctx, out.Keys-counted)
			counted = out.Keys
			if err := ctx.Err(); err != nil {
				return out, err
			}
		}
	}
	h.Write(buf)
	h.Sum(out.Sum[:0])
	return out, v.m.note(it.err)
}
