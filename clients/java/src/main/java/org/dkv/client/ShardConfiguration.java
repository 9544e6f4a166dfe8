package org.dkv.client;

import com.google.gson.Gson;
import com.google.gson.JsonParseException;
import java.io.Reader;
import java.util.HashSet;
import java.util.Set;

/**
 * All shards, in the order of their numbers. In JSON:
 *
 * <pre>{@code
 * {"dkvShards": [
 *   {"name": "shard0", "topology": {
 *     "MASTER": {"name": "masters0", "nodes": [{"host": "10.0.0.1", "port": 8080}]},
 *     "SLAVE":  {"name": "slaves0",  "nodes": [{"host": "10.0.0.2", "port": 8080}]}}}]}
 * }</pre>
 */
public final class ShardConfiguration {
    private final DKVShard[] dkvShards;

    /** Makes a configuration of at least one shard. */
    public ShardConfiguration(DKVShard[] dkvShards) {
        this.dkvShards = dkvShards == null ? null : dkvShards.clone();
        check();
    }

    // For deserialization.
    private ShardConfiguration() {
        this.dkvShards = null;
    }

    /**
     * Reads a configuration.
     *
     * @throws IllegalArgumentException if it is not JSON or not complete
     */
    public static ShardConfiguration fromJson(Reader json) {
        ShardConfiguration read;
        try {
            read = new Gson().fromJson(json, ShardConfiguration.class);
        } catch (JsonParseException e) {
            throw new IllegalArgumentException("shard configuration: " + e.getMessage(), e);
        }
        if (read == null) {
            throw new IllegalArgumentException("shard configuration is empty");
        }
        read.check();
        return read;
    }

    /** Returns the shard with this number, counted from 0. */
    public DKVShard getShardAtIndex(int index) {
        if (index < 0 || index >= dkvShards.length) {
            throw new IllegalArgumentException("there is no shard " + index + "; there are " + dkvShards.length);
        }
        return dkvShards[index];
    }

    /** Returns the number of shards. */
    public int getNumShards() {
        return dkvShards.length;
    }

    /** Checks all of it: deserialization by other libraries does not run the constructor. */
    void check() {
        if (dkvShards == null || dkvShards.length == 0) {
            throw new IllegalArgumentException("shard configuration has no dkvShards");
        }
        Set<DKVShard> seen = new HashSet<>();
        for (int i = 0; i < dkvShards.length; i++) {
            if (dkvShards[i] == null) {
                throw new IllegalArgumentException("shard configuration: shard " + i + " is null");
            }
            dkvShards[i].check("shard configuration: shard " + i);
            if (!seen.add(dkvShards[i])) {
                throw new IllegalArgumentException(
                        "shard configuration has two shards named " + dkvShards[i].getName());
            }
        }
    }
}
