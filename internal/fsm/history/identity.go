// Package history says which cluster and which history a state belongs to, and which
// histories came before that one. A restore ends a history and begins another one in the same
// cluster, and so does a promotion.
package history

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/dkvdb/dkv/internal/storage"
)

// Identity says which cluster and which history a state belongs to. Both ids are random, in
// hexadecimal. They are empty in a replica's state until the log's first epoch names it.
type Identity struct {
	// Cluster stays the same for the whole life of a database.
	Cluster string
	// History changes when the keyspace is replaced, as by a restore. Change numbers of
	// different histories are not related. What is not random in it package era adds and reads.
	History string
}

// identityFormat is the format of the identity record, in its first line.
const identityFormat = 1

// Append appends the identity record to dst.
func (id Identity) Append(dst []byte) []byte {
	return fmt.Appendf(dst, "%d\n%s\n%s\n", identityFormat, id.Cluster, id.History)
}

// DecodeIdentity decodes an identity record.
func DecodeIdentity(p []byte) (Identity, error) {
	f := bytes.Split(p, []byte("\n"))
	if format, err := strconv.ParseUint(string(f[0]), 10, 32); err == nil && len(f) > 1 && format > identityFormat {
		return Identity{}, storage.Newer("the identity record", format, identityFormat)
	}
	if len(f) != 4 || string(f[0]) != "1" || (len(f[1]) == 0) != (len(f[2]) == 0) || len(f[3]) != 0 {
		return Identity{}, fmt.Errorf("%w: identity record", storage.ErrCorrupt)
	}
	return Identity{Cluster: string(f[1]), History: string(f[2])}, nil
}
