package org.dkv.client;

import java.util.List;
import java.util.Map;

/** Maps keys to shards. It must be safe for use by many threads. */
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
