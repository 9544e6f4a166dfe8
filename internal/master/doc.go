// Package master serves keys, the gRPC service DKV, over the vBuckets of a node. [KV] checks a request by its
// [Limits], finds the vBucket of its keys, and has the vBucket's owner carry it out: this node's replica, or another
// node by package route. A multi-get, a multi-put or an iteration over several vBuckets is divided among their
// owners, and their answers are merged; each vBucket is read from one state.
//
// The other services of a node are packages of their own: maintenance (the node as a whole), backups, replication
// (changes and snapshots), and confirming (what slaves have confirmed). None of them imports another. DESIGN.md in
// this folder explains what all of them have in common.
package master
