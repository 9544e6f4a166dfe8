package org.dkv.client;

/** What the nodes of a set are to their shard. */
public enum DKVNodeType {
    /** They take writes and linearizable reads. */
    MASTER,
    /** They take sequential reads. */
    SLAVE,
    /** Not known, such as behind a proxy: they take what there is no other set for. */
    UNKNOWN
}
