// Package dkv is the client of DKV, a distributed key-value store.
//
// A Client begins with the addresses of one or more nodes, or of registries, and
// learns from them who leads and who follows. It sends mutations and linearizable
// reads to the leader of the key's vBucket, and sequential reads to the replica
// from which it expects the answer first:
//
//	c, err := dkv.Open(ctx, "10.0.0.1:8080,10.0.0.2:8080")
//	index, err := c.Put(ctx, []byte("greeting"), []byte("hello"))
//	value, err := c.Get(ctx, []byte("greeting"))
//
// # Retries
//
// A request that failed is sent again, to another node where there is one, as long
// as the context allows it and it is safe: reads, mutations of which the server
// says that they had no effect, and mutations with a request id. Each mutation has
// one by default, so that an increment whose answer is lost is still applied
// exactly once: servers remember its result, through changes of the leader, restarts
// and restores, and answer a repeat with that. Their memory is bounded. If very many
// clients write they may have forgotten a result before the repeat comes; then they
// do not apply it again, and say that they cannot tell. What remains uncertain, for
// that reason or because time is up, is ErrOutcomeUnknown: read what is there before
// deciding to write again. A new call is a new request to the servers.
//
// # Consistency
//
// Reads are linearizable unless they say otherwise. A sequential read answers from
// the state of one replica, which may lag; the next one may be answered by another
// replica, which lags more. A mutation returns the log index of the write, and a read
// that of the state: a sequential read with MinIndex of it sees that, on any replica.
// Indexes belong to the vBucket of a key and cannot be compared across vBuckets.
//
// A Client is safe for concurrent use, and meant to be shared.
package dkv
