package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

/**
 * A client of several clusters, each of which has a part of the keyspace. Writes and linearizable reads go to the
 * masters of a key's shard, sequential reads to its slaves if there are any, and to the masters if no slave answers.
 *
 * <p>Calls carry the name of the set of nodes that they go to as their authority, by which a proxy such as Envoy can
 * tell the sets apart behind one address. With TLS, or with an {@linkplain ConnectionOptions.Builder#authority authority}
 * in the options, they do not.
 *
 * <p>The provider is asked in each call, and may name other nodes of a shard than before.
 *
 * <p>A put of several keys or a linearizable {@code multiGet} across shards throws {@link UnsupportedOperationException}.
 * Iterations need a {@link ShardProvider} that lists its shards, such as {@link KeyHashBasedShardProvider}; each
 * shard's part is read from a snapshot of its own.
 */
public final class ShardedDKVClient extends RoutedClient {
    private final ShardProvider provider;
    private final Map<DKVShard, ShardNodes> shards = new ConcurrentHashMap<>();
    /** Not with TLS: the certificate has to contain the authority. */
    private final boolean setsAreAuthorities;

    /** Makes a client with the default options; it connects with the first call. */
    public ShardedDKVClient(ShardProvider provider) {
        this(provider, null);
    }

    /**
     * Makes a client; it connects with the first call.
     *
     * @param options null means the defaults
     */
    public ShardedDKVClient(ShardProvider provider, ConnectionOptions options) {
        this(ConnectionOptions.orDefault(options), provider);
    }

    private ShardedDKVClient(ConnectionOptions options, ShardProvider provider) {
        super(new Connections(null, options), options);
        if (provider == null) {
            throw new IllegalArgumentException("shard provider is null");
        }
        this.provider = provider;
        this.setsAreAuthorities = options.authority() == null && !options.tls();
    }

    private DKVShard shardOf(ByteString key) {
        DKVShard shard = provider.provideShard(key.toByteArray());
        if (shard == null) {
            throw new IllegalStateException("the shard provider returned no shard for a key");
        }
        return shard;
    }

    private ShardNodes nodesOf(ByteString key) {
        return nodesOf(shardOf(key));
    }

    /** Returns the nodes of a shard as its provider names them now. */
    private ShardNodes nodesOf(DKVShard shard) {
        ShardNodes known = shards.get(shard);
        return known != null && known.areOf(shard) ? known
                : shards.compute(shard, (same, old) -> old != null && old.areOf(shard) ? old : new ShardNodes(shard));
    }

    @Override
    Route toOwner(ByteString key) {
        return nodesOf(key).masters();
    }

    @Override
    Route toReplica(ByteString key) {
        return nodesOf(key).readers();
    }

    private Map<DKVShard, List<ByteString>> byShard(List<ByteString> keys) {
        Map<DKVShard, List<ByteString>> out = new LinkedHashMap<>();
        for (ByteString key : keys) {
            out.computeIfAbsent(shardOf(key), shard -> new ArrayList<>()).add(key);
        }
        return out;
    }

    @Override
    Route toOwnerOfAll(List<ByteString> keys) {
        return only(byShard(keys), "put").masters();
    }

    private ShardNodes only(Map<DKVShard, List<ByteString>> parts, String what) {
        if (parts.size() > 1) {
            throw new UnsupportedOperationException(
                    "a " + what + " of keys in " + parts.size() + " shards "
                            + parts.keySet().stream().map(DKVShard::getName).collect(Collectors.toList())
                            + " cannot be done in one call; make a call per shard");
        }
        return nodesOf(parts.keySet().iterator().next());
    }

    @Override
    List<Api.KVPair> multiGet(Api.ReadConsistency consistency, List<ByteString> keys) {
        Map<DKVShard, List<ByteString>> parts = byShard(keys);
        if (consistency == LINEARIZABLE) {
            return multiGetVia(only(parts, "linearizable multiGet").masters(), consistency, keys);
        }
        if (parts.size() == 1) {
            return multiGetVia(only(parts, "multiGet").readers(), consistency, keys);
        }
        Map<ByteString, Api.KVPair> found = new HashMap<>();
        long begun = System.nanoTime();
        parts.forEach((shard, part) -> multiGetVia(nodesOf(shard).readers(), consistency, part, timeToReadSince(begun))
                .forEach(pair -> found.put(pair.getKey(), pair)));
        List<Api.KVPair> out = new ArrayList<>(found.size());
        for (ByteString key : keys) {
            Api.KVPair pair = found.get(key);
            if (pair != null) {
                out.add(pair);
            }
        }
        return out;
    }

    @Override
    DKVEntryIterator iterate(Api.IterateRequest request) {
        if (!(provider instanceof KeyHashBasedShardProvider)) {
            throw new UnsupportedOperationException(
                    "the shard provider does not list its shards; iterate with a client per shard");
        }
        MergedEntries merged = new MergedEntries();
        long begun = System.nanoTime();
        try {
            for (DKVShard shard : ((KeyHashBasedShardProvider) provider).shards()) {
                merged.add(iterateVia(nodesOf(shard).readers(), request, timeToReadSince(begun)));
            }
        } catch (RuntimeException e) {
            merged.close();
            throw e;
        }
        return merged;
    }

    /** The nodes of a shard by the requests that they serve. */
    private final class ShardNodes {
        private final DKVShard shard;
        private final Ring masters;
        private final List<String> slaves;
        private final AtomicInteger turn = new AtomicInteger();

        ShardNodes(DKVShard shard) {
            this.shard = shard;
            boolean any = shard.has(DKVNodeType.MASTER) || shard.has(DKVNodeType.UNKNOWN);
            this.masters = any ? new Ring(addresses(DKVNodeType.MASTER, DKVNodeType.UNKNOWN)) : null;
            this.slaves = shard.has(DKVNodeType.SLAVE) ? addresses(DKVNodeType.SLAVE) : null;
        }

        boolean areOf(DKVShard now) {
            return shard.hasNodesOf(now);
        }

        private List<String> addresses(DKVNodeType... types) {
            DKVNodeSet set = shard.getNodesByType(types);
            return set.addresses().stream()
                    .map(address -> setsAreAuthorities ? HostPort.named(set.getName(), address) : address)
                    .collect(Collectors.toUnmodifiableList());
        }

        Route masters() {
            if (masters == null) {
                throw new IllegalArgumentException(
                        "shard " + shard.getName() + " has no masters for writes and linearizable reads");
            }
            return masters;
        }

        /** Returns the slaves, starting with another one each time, and the masters after them. */
        Route readers() {
            if (slaves == null) {
                return masters();
            }
            List<String> order = new ArrayList<>(slaves);
            Collections.rotate(order, -Math.floorMod(turn.getAndIncrement(), order.size()));
            if (masters != null) {
                order.addAll(masters.all());
            }
            return new Candidates(order, connections());
        }
    }
}
