package org.dkv.client;

/** The role of a set of nodes in their shard. */
public enum DKVNodeType {
    /** They serve writes and linearizable reads. */
    MASTER,
    /** They serve sequential reads. */
    SLAVE,
    /** Not known, such as behind a proxy: they serve everything that no other set serves. */
    UNKNOWN
}
