// Package maintenance serves what concerns a node as a whole, as opposed to single keys: the calls that an
// operator, a dashboard or dkvctl makes of it. [Node] implements two gRPC services.
//
// Of DKVNode it serves the status, the content hash, the pause of writes, the clock of the log, the Raft timing,
// the version of the cluster, and the orders that have a slave's copy rebuilt. Calls fall into two kinds:
//
//   - The status, a content hash, the level of the log and the rebuilding of a copy are about this node alone.
//     They are served here, also by a node that owns no log, and work while there is no majority.
//   - A pause, the clock and the version change the state of every vBucket, and the timing that of the first.
//     Each vBucket's owner makes the change, through its log, so that all replicas have it: package route finds
//     the owners. A change that has reached some vBuckets only says so, and may be repeated.
//
// Of DKVCluster it serves the nodes that belong to no Raft cluster: a standalone node lists itself, a slave lists
// itself as one, and both reject changes of the members. Members of a cluster have package cluster do that.
//
// The service keeps no state besides what bounds its own work. One content hash is made at a time, and few may
// wait, because each reads the whole state; the memory of the engines is measured every few seconds at most,
// because each member asks for a status each second. What a node knows besides its replicas, such as its standing
// slaves or the record in the registry, is handed to the Show methods by the program that assembles it.
package maintenance
