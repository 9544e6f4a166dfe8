package org.dkv.client;

import java.util.List;
import java.util.Map;

/** Knows which shard a key is in. It may be asked by many threads at once. */
public interface ShardProvider {
    /** Returns the shard of a key. */
    DKVShard provideShard(byte[] key);

    /** Returns the shard of a key. */
    DKVShard provideShard(String key);

    /** Returns the shards of at least one key, with the keys of each in their order. */
    Map<DKVShard, List<byte[]>> provideShards(byte[]... keys);

    /** Returns the shards of at least one key, with the keys of each in their order. */
    Map<DKVShard, List<String>> provideShards(String... keys);
}
