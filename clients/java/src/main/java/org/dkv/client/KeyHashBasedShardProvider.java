package org.dkv.client;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** Divides the keyspace by hash: a key's shard is (xxHash64(key) &amp; 0xFFFF) mod the number of shards. */
public final class KeyHashBasedShardProvider implements ShardProvider {
    private final ShardConfiguration shards;

    /** Makes a provider of the shards of a configuration. */
    public KeyHashBasedShardProvider(ShardConfiguration configuration) {
        if (configuration == null) {
            throw new IllegalArgumentException("shard configuration is null");
        }
        configuration.check();
        this.shards = configuration;
    }

    @Override
    public DKVShard provideShard(byte[] key) {
        if (key == null) {
            throw new IllegalArgumentException("key is null");
        }
        return shards.getShardAtIndex(KeyHash.part(key, shards.getNumShards()));
    }

    @Override
    public DKVShard provideShard(String key) {
        if (key == null) {
            throw new IllegalArgumentException("key is null");
        }
        return provideShard(key.getBytes(StandardCharsets.UTF_8));
    }

    @Override
    public Map<DKVShard, List<byte[]>> provideShards(byte[]... keys) {
        return group(keys, this::provideShard);
    }

    @Override
    public Map<DKVShard, List<String>> provideShards(String... keys) {
        return group(keys, this::provideShard);
    }

    /** Returns all shards. */
    List<DKVShard> shards() {
        List<DKVShard> all = new ArrayList<>();
        for (int i = 0; i < shards.getNumShards(); i++) {
            all.add(shards.getShardAtIndex(i));
        }
        return all;
    }

    private static <K> Map<DKVShard, List<K>> group(K[] keys, Function<K, DKVShard> shardOf) {
        if (keys == null || keys.length == 0) {
            throw new IllegalArgumentException("there are no keys");
        }
        Map<DKVShard, List<K>> out = new LinkedHashMap<>();
        for (K key : keys) {
            out.computeIfAbsent(shardOf.apply(key), shard -> new ArrayList<>()).add(key);
        }
        return out;
    }
}
