// Package source knows the nodes that a slave may get the changes of a vBucket from, and which of them it
// should choose. It asks none of them anything: package slave does that, and reports here how it went.
//
// # Which sources there are
//
// A [List] is what an operator has configured; the first address is preferred. [Rows] are what the registry
// lists: the members that own or follow the vBucket's log and, for a slave that may follow other slaves, those of
// its own data centre whose chain of masters ends at a member without passing this slave. A circle of slaves
// would follow itself for ever, so a chain that does not end at a member is no source. If the registry names no
// source any more, those that it named last stay: they may live, and only not reach the registry.
//
// # Which one is chosen
//
// A [Chooser] orders sources by these questions, the first of which decides that tells two of them apart:
//
//  1. Does it claim an era after the copy's own, which a promotion has begun? Then it comes before all others: those
//     of the copy's own history may not know yet that they were replaced.
//  2. Does it own the log and wait for this copy? Then it comes next, unless the copy could not follow it lately.
//  3. Has it another history than the copy? Then it comes last: from there the copy could not continue.
//  4. Where is it? The order is: followers in this data centre, the leader there, slaves there, followers elsewhere,
//     the leader. Followers come before leaders because a leader has more to do.
//  5. Which one did the operator name first, which one has the fewest slaves, and which one comes first by a hash
//     of both addresses? The hash spreads slaves over equal sources, and gives each the same one every time.
//
// A source that fails is passed over for a second, and each time after that for twice as long, up to half a minute.
// One that has served for ten seconds begins at a second again.
//
// A slave that follows one source moves to a better one ([Chooser.Better]). Equal ones must differ by two slaves:
// with one, slaves would move back and forth.
//
// Lists and rows are safe for concurrent use. A Chooser is not: it belongs to the Puller of one vBucket.
package source
