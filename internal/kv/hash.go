package kv

import "github.com/cespare/xxhash/v2"

// VBucketOf returns the position, in hash order, of the vBucket that a key belongs to in a
// database of n vBuckets: (xxhash64(key) & 0xFFFF) mod n. Servers and clients in the field
// compute it alike.
func VBucketOf(key []byte, n int) int {
	if n == 1 {
		return 0
	}
	return int((xxhash.Sum64(key) & 0xFFFF) % uint64(n))
}

// ClusterTag returns what a request carries to name the cluster that it is meant for: the
// xxHash64 of the cluster's id.
func ClusterTag(id string) uint64 { return xxhash.Sum64String(id) }
