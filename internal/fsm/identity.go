package fsm

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Identity says which cluster and which history a state belongs to. Both ids are random, in
// hexadecimal. They are empty in a replica's state until the log's first epoch names it.
type Identity struct {
	// Cluster stays the same for the whole life of a database.
	Cluster string
	// History changes when the keyspace is replaced, as by a restore. Change numbers of
	// different histories are not related.
	History string
}

// identityFormat is the format of the identity record, in its first line.
const identityFormat = 1

func (id Identity) append(dst []byte) []byte {
	return fmt.Appendf(dst, "%d\n%s\n%s\n", identityFormat, id.Cluster, id.History)
}

func decodeIdentity(p []byte) (Identity, error) {
	f := bytes.Split(p, []byte("\n"))
	if format, err := strconv.ParseUint(string(f[0]), 10, 32); err == nil && len(f) > 1 && format > identityFormat {
		return Identity{}, storage.Newer("the identity record", format, identityFormat)
	}
	if len(f) != 4 || string(f[0]) != "1" || (len(f[1]) == 0) != (len(f[2]) == 0) || len(f[3]) != 0 {
		return Identity{}, fmt.Errorf("%w: identity record", storage.ErrCorrupt)
	}
	return Identity{Cluster: string(f[1]), History: string(f[2])}, nil
}

// Inspect returns the ids and the index of the state in an engine that no machine has open.
func Inspect(engine storage.Engine) (Identity, kv.Index, error) {
	raw, found, err := engine.Get(storage.Meta, keyIdentity)
	if err != nil {
		return Identity{}, 0, err
	}
	if !found {
		return Identity{}, 0, fmt.Errorf("%w: there is no identity record", storage.ErrCorrupt)
	}
	id, err := decodeIdentity(raw)
	if err != nil {
		return Identity{}, 0, err
	}
	st, err := readState(engine)
	return id, st.applied, err
}
