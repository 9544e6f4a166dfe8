// Package dkv is the client of DKV, a distributed key-value store.
//
// A Client starts with the addresses of one or more nodes, or of registries, and
// learns from them which nodes lead and which follow. It sends mutations and
// linearizable reads to the leader of the key's vBucket, and sequential reads to the
// replica that it expects to answer first:
//
//	c, err := dkv.Open(ctx, "10.0.0.1:8080,10.0.0.2:8080")
//	index, err := c.Put(ctx, []byte("greeting"), []byte("hello"))
//	value, err := c.Get(ctx, []byte("greeting"))
//
// # Retries
//
// A request that failed is sent again, to another node if there is one, as long as
// the context allows it and it is safe. Safe are reads, mutations that the server
// says had no effect, and mutations with a request id. Each mutation has an id by
// default, so that an increment whose answer is lost is still applied exactly once:
// servers remember its result through changes of the leader, restarts and restores,
// and answer a repeat with it.
//
// The servers' memory is bounded. If very many clients write, a result may be gone
// before the repeat arrives. The servers then do not apply the request again, and
// answer that its outcome is unknown. That, or a time limit that is reached too
// early, is ErrOutcomeUnknown: read the keys before deciding to write again. A new
// call is a new request to the servers.
//
// Servers of the earlier system know no ids. A mutation whose answer is lost there is
// ErrOutcomeUnknown at once. With WithFixedAddresses the client does not notice that they
// are such servers: use WithoutIdempotency as well.
//
// # Consistency
//
// Reads are linearizable unless an option says otherwise. A sequential read answers
// from the state of one replica, which may lag; the next one may be answered by
// another replica, which lags more. Replicas of the client's data centre (WithDC) are
// asked first, and of these the one that is expected to answer first. A mutation returns the log index of the write, and
// a read that of the state it saw. A sequential read with this index as MinIndex sees
// at least that state, on any replica. Indexes belong to the vBucket of a key and
// cannot be compared across vBuckets.
//
// # Writes that must survive the loss of the masters
//
// A mutation is acknowledged when a majority of the masters has it, and whatever else the
// masters' repl-ack asks for. An Ack as an option raises that for one mutation, WithAck for
// all of a client; an Answer says which level was reached:
//
//	var answer dkv.Answer
//	_, err := c.Put(ctx, []byte("order"), []byte("paid"), dkv.AckSync, &answer)
//
// Such a mutation never falls back. Without a slave that stands by it is ErrUnavailable and was
// not applied. If the slave does not confirm it in time it is ErrOutcomeUnknown as well: it is
// applied, and a promotion may undo it.
//
// # Security
//
// WithTLS and WithTLSFiles encrypt all connections, those to registries and to nodes that
// the client learns of included. WithToken, WithTokenFile and WithTokenSource send a bearer
// token; a client certificate may stand in for it:
//
//	c, err := dkv.Open(ctx, "db1.example:8080",
//		dkv.WithTLSFiles(dkv.TLSFiles{CA: "ca.pem"}), dkv.WithTokenFile("me.token"))
//
// Both kinds of files are read again when they change. Errors are ErrTLS,
// ErrUnauthenticated and ErrPermissionDenied; none of them is retried.
//
// # Tracing
//
// A call whose context has a span of OpenTelemetry passes it on, so that the spans of
// nodes with trace-endpoint are below it. The client itself makes no spans.
//
// A Client is safe for concurrent use, and meant to be shared.
package dkv
