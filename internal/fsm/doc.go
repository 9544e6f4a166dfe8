// Package fsm is DKV's state machine: it turns log entries into engine batches, and nothing
// else decides what a write means. A standalone node feeds it from its own log, a master from
// Raft, and a slave from its master's changes.
//
// # Rules
//
// Apply is a function of the state and the log. It reads no clock, no configuration and no
// random number, and it does not depend on the engine or on how entries were batched. So all
// replicas that applied the same entries hold the same bytes. A replica that decided anything
// by itself would diverge, and no one would notice before a failover.
//
// A run of entries is one engine batch: data, expiry index, change records, remembered
// requests and the state record with the applied index. A crash leaves all of it or nothing,
// and the log is replayed from the index that the state record names.
//
// The outcome of a command (value differs, overflow, paused) is a result, and not an error:
// it is part of the function. An error means that storage failed. The machine then writes
// nothing more, because it cannot know whether the batch was stored.
//
// # Where to find what
//
//	machine, observe, engine      a Machine: opened, asked about itself, synced, closed
//	apply, batch, mutate, cost    entries become a batch
//	control, epoch, seal, stage   commands that concern the log and not the keyspace
//	read, view, iterate           reads, of the current state and of a pinned one
//	changes, replicate, large     the change stream, and its application on a slave
//	lineage                       the histories before this one, and the way into a later one
//	export, unstage               what becomes another engine's state
//	gate                          keeps the engine open while anyone reads
//
// and in packages:
//
//	layout     how all of it is stored
//	chunks     a state as chunks of records, and back
//	offline    a state that no Machine has open becomes the start of a new log or history
//	history    which history a state is of, and which came before
//	requests   which requests of clients were applied before
//
// DESIGN.md in this folder says why it is built like this.
package fsm
