// Package survey asks the nodes of clusters how they are, and says it in the words of dkvctl -status: a [Row] for
// each node, which is also its JSON. -upgrade and the drills read the same rows.
//
// [Take] begins with the nodes that -a names. Those that answer are grouped by cluster, one node of each is asked
// for the members, and each member is asked itself. One address is therefore enough for a whole cluster, and a row
// says what the node says, not what others think of it. Only a member that cannot be asked, because its address is
// not known or the token would go there unencrypted, is shown as its cluster sees it.
//
// A node must have one row although it may be named several times: by -a, by another name in -a, and as a member.
// Answers are matched by the id of the node and its cluster, silent nodes by their addresses, and a silent node
// without a known address is taken for a member that its cluster calls offline. Otherwise a dead node would count
// twice, and [Survey.Majority] would be wrong.
//
// A node with many vBuckets still has one line: how many of them are in which condition, the worst first, with the
// names of a few. The conditions are in the order of what an operator has to look at first.
package survey
