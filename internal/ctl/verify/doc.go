// Package verify finds out whether nodes hold the same content of a vBucket, for dkvctl -verify.
//
// A node hashes its content at the log index that it is at. Two hashes can be compared only if they are of the same
// index, and during writes each node is at another one. A [Verifier] therefore asks all nodes at the same time and
// keeps every answer: an early answer of one node may be of the same index as a late answer of another. If no index
// has been hashed by all nodes after half a minute of tries, the [Verdict] is that they cannot be compared, and it says
// why: writes go on, some nodes make no progress, or they hold different histories.
//
// That nodes cannot be compared is not that they differ. They differ if their hashes of one index do, or their
// histories; then the content that most of them have is taken for the right one, and the others are named.
package verify
