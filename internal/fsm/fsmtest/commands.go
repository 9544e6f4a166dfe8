package fsmtest

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// Start is the clock of the first command: some time in 2023, on a full second.
const Start = kv.Clock(1_700_000_000_000)

// Sec is the second that lies n seconds after Start.
func Sec(n int) uint64 { return uint64(int(Start/1000) + n) }

// Put is a mutation that puts a key.
func Put(key, value string) kv.Mutation {
	return kv.Mutation{Key: []byte(key), Value: []byte(value)}
}

// PutUntil is a put that expires n seconds after start.
func PutUntil(key, value string, n int) kv.Mutation {
	m := Put(key, value)
	m.ExpireTS = Sec(n)
	return m
}

// Delete is a mutation that deletes a key.
func Delete(key string) kv.Mutation { return kv.Mutation{Key: []byte(key), Delete: true} }

// Write is a command that writes.
func Write(ms ...kv.Mutation) command.Command {
	return command.Command{Kind: command.Write, Mutations: ms}
}

// Cas is a CompareAndSet.
func Cas(expect string, m kv.Mutation) command.Command {
	return command.Command{Kind: command.CompareAndSet, Expect: []byte(expect), Mutations: []kv.Mutation{m}}
}

// Increment adds delta to a counter.
func Increment(key string, delta int64) command.Command {
	return command.Command{Kind: command.Increment, Delta: delta, Mutations: []kv.Mutation{{Key: []byte(key)}}}
}

// Expire proposes to expire keys that were put until n seconds after start.
func Expire(n int, keys ...string) command.Command {
	c := command.Command{Kind: command.Expire}
	for _, k := range keys {
		c.Mutations = append(c.Mutations, kv.Mutation{Key: []byte(k), ExpireTS: Sec(n), Delete: true})
	}
	return c
}

// Pause rejects mutations, or admits them again.
func Pause(on bool) command.Command { return command.Command{Kind: command.SetPaused, Flag: on} }

// As makes c a request of a client.
func As(c command.Command, client, sequence, acked uint64) command.Command {
	c.Request = kv.RequestID{Client: client, Sequence: sequence, Acked: acked}
	return c
}

// Begin begins an epoch.
func Begin(term, owner, nonce uint64) command.Command {
	return command.Command{Kind: command.BeginEpoch, Begin: &command.Begin{Term: term, Owner: owner, Nonce: nonce}}
}

// Fenced makes c a command of an epoch.
func Fenced(epoch kv.Index, c command.Command) command.Command {
	c.Fence = epoch
	return c
}

// Member sets the record of a member.
func Member(id uint64, record string) command.Command {
	return command.Command{Kind: command.SetMember, Member: &command.Member{ID: id, Record: []byte(record)}}
}

// SetSlave adds a slave to the list, or removes it.
func SetSlave(zone, address string, keep bool) command.Command {
	return command.Command{Kind: command.SetSlave, Flag: keep, Expect: command.Slave{Zone: zone, Address: address}.Append(nil)}
}

// SetStandbys replaces the record of the standbys, which was changed last at an index.
func SetStandbys(record string, over kv.Index) command.Command {
	return command.Command{Kind: command.SetStandbys, Expect: []byte(record), Delta: int64(over)}
}

// SetTiming replaces the record of the timing, which was changed last at an index.
func SetTiming(record string, over kv.Index) command.Command {
	return command.Command{Kind: command.SetTiming, Expect: []byte(record), Delta: int64(over)}
}

// SetFormat raises the log's format.
func SetFormat(format int64) command.Command {
	return command.Command{Kind: command.SetFormat, Delta: format}
}

// Seal seals the log for a promotion.
func Seal(promotion string) command.Command {
	return command.Command{Kind: command.Seal, Expect: []byte(promotion)}
}

// Unseal ends the seal for a promotion.
func Unseal(promotion string) command.Command {
	return command.Command{Kind: command.Unseal, Expect: []byte(promotion)}
}

// Stage stages pairs of the restore with the id "id".
func Stage(pairs ...kv.Mutation) command.Command {
	return command.Command{Kind: command.StageRestore, Expect: []byte("id"), Mutations: pairs}
}
