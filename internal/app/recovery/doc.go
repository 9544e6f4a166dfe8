// Package recovery makes what is left of a cluster whose majority is lost a master: `dkvsrv recover`.
// A first call lists what the folder of one stopped member has, and what would be lost; a second one,
// which names what was listed, acts. It is the sibling of a promotion by force, whose record, new
// history and end it uses; a member has a Raft log besides, whose end no majority confirms any more.
// DESIGN.md has the rules, and what breaks without each.
package recovery
