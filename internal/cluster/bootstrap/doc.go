// Package bootstrap decides, before Raft is started, which member of which cluster a
// node is, or why it must not start. It keeps that in the identity file. It does not
// use the Raft library.
//
// # Forming a cluster
//
// All nodes of nexus-cluster-url start alike. Replica numbers follow the sorted list,
// so the order typed does not matter, and the least url is the founder. It chooses
// the deployment id and writes its own identity; then it invites the others, which
// listen for that on their Raft ports as long as Raft does not use them.
//
// A replica that votes, loses its disk and comes back under the same number
// could vote a second time in one term, and two leaders could be elected. So a
// number must never be given to two disks. Each disk carries a uuid, which is
// written before the node sends anything. The founder writes down which uuid it
// invites as which replica before it sends the invitation, and never invites
// another uuid for that replica; nothing depends on timing. Only the founder
// invites a first member, and it does not found a cluster while a node of its list
// runs Raft already.
//
// The founder's list counts for nodes that are added too: once the members run Raft,
// the founder writes into the replicated state which disk each number was given to,
// for those that have not announced themselves. While a member's disk is not known
// anywhere, its number is given to no disk at all: the member may have voted and
// acknowledged entries before it was heard of.
//
// One case is left to the operator: a founder that has lost its disk, and is
// started again as at first while every other member that accepted is down, founds
// a second cluster. That has another deployment id, so the members of the first
// never mix with it and keep their data; only first members that have never been
// started could become members of it.
//
// # Joining a cluster
//
// A node that is started with nexus-join waits for an invitation too. Its replica
// number is one that was never used, chosen in the cluster's replicated state.
//
// # TLS
//
// The port of a waiting node is the Raft port, and has its TLS: the same mode, and the
// certificate of a node from each caller (package nodeport). An invitation decides which
// cluster a disk belongs to for good, so no one else may send one. What Raft says there and
// what this package says both begin with other bytes than TLS, so the three are told apart
// by the first byte. URLs stay http://host:port in every mode; https:// means the same, so
// that the urls, by which members are known, do not change when TLS is turned on.
package bootstrap
