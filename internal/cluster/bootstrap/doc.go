// Package bootstrap decides how a node becomes a member of a cluster: as which
// replica, of which deployment, with which first members Raft is started, or
// why it must not be. It knows nothing of the Raft library.
//
// # Forming a cluster
//
// All nodes of a list start alike. Replica numbers follow the sorted list, so
// the order typed does not matter, and the least url is the founder. It makes
// the deployment id and writes its own identity; then it invites the others,
// which listen for that on their Raft ports while Raft does not need them yet.
//
// A replica that votes, loses its disk and comes back under the same number
// could vote a second time in one term, and two leaders could be elected. So a
// number must never be given to two disks. Each disk carries a uuid, which is
// made and written before the node says a word. The founder writes down which
// uuid it invites as which replica before it sends the invitation, and invites
// no other uuid for it ever after; no timing matters. Nobody but the founder
// invites a first member, and the founder itself refuses to found a cluster
// while a node of its list runs Raft already.
//
// The founder's list holds for adding nodes too: once the members run Raft, it
// writes into the replicated state which disk each number was given to, for those
// that have not announced themselves. While a member's disk is known nowhere, its
// number is given to no disk at all: the member may have voted and acknowledged
// entries before anything was heard of it.
//
// One case is left to the operator: a founder that has lost its disk, and is
// started as it was at first while every other member that accepted is down,
// founds a second cluster. It has another deployment id, so the members of the
// first never mix with it and keep what they have; only first members that have
// never been started could enter it.
//
// # Joining one that is there
//
// A node that is started to join waits for an invitation too; its replica
// number is fresh, and comes from the cluster's own replicated state.
package bootstrap
