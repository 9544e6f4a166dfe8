package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import io.grpc.Status;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * A client that learns from the discovery registry which nodes serve a database, and follows changes. Writes and
 * linearizable reads go to the leader of a key's vBucket, sequential reads to its slaves, those of the client's own
 * data centre ({@link ConnectionOptions.Builder#dcId}) first.
 *
 * <p>A call on several vBuckets goes to a node that has all of them; if there is none, it throws {@link
 * UnsupportedOperationException}.
 */
public final class DiscoveryDKVClient extends RoutedClient {
    private static final List<String> SCHEMES = List.of("discovery://", "multi:///");

    private final TopologyWatch watch;

    /**
     * Makes a client and starts to ask the registry; calls wait until it has answered.
     *
     * @param registries addresses of the registry's nodes, {@code host:port} separated by commas; the scheme {@code
     *     discovery://} or {@code multi:///} may precede them
     * @param database the name of the database
     * @param options null means the defaults
     */
    public DiscoveryDKVClient(String registries, String database, ConnectionOptions options) {
        this(ConnectionOptions.orDefault(options), registries, database);
    }

    private DiscoveryDKVClient(ConnectionOptions options, String registries, String database) {
        super(new Connections(null, options), options);
        if (database == null || database.isBlank()) {
            throw new IllegalArgumentException("database is empty; the name that nodes have by default is \"default\"");
        }
        this.watch = new TopologyWatch(
                connections(), SimpleDKVClient.addresses(withoutScheme(registries), "registries"), database,
                options.getDcId());
    }

    private static String withoutScheme(String registries) {
        for (String scheme : SCHEMES) {
            if (registries != null && registries.startsWith(scheme)) {
                return registries.substring(scheme.length());
            }
        }
        return registries;
    }

    @Override
    long clusterOf(ByteString key) {
        Topology now = watch.topology();
        return now.divided() ? now.tag(now.vBucket(key)) : 0;
    }

    @Override
    long clusterOfFirst() {
        List<String> all = watch.topology().vBuckets();
        return all.isEmpty() ? 0 : watch.topology().tag(all.get(0));
    }

    /** A route that looks at the current topology for each attempt. */
    private abstract class Live implements Route {
        private Topology seen;
        private Candidates way;

        abstract List<String> addresses(Topology now);

        private Candidates way() {
            Topology now = watch.topology();
            if (now != seen) {
                seen = now;
                List<String> addresses = addresses(now);
                if (addresses.isEmpty() && watch.stranger() != null) {
                    throw DKVException.of(
                            Status.FAILED_PRECONDITION.withDescription(watch.stranger()), "GetClusterInfo",
                            "find the nodes of the database");
                }
                way = new Candidates(addresses, connections());
            }
            Status rejection = way.size() > 0 ? null : watch.rejection();
            if (rejection != null) {
                throw DKVException.of(rejection, "GetClusterInfo", "find the nodes of the database");
            }
            return way;
        }

        @Override
        public String next() {
            return way().next();
        }

        @Override
        public void failed(String address) {
            way().failed(address);
        }

        @Override
        public boolean learns() {
            return true;
        }

        @Override
        public void served() {
            watch.served(seen);
        }

        @Override
        public int size() {
            return way().size();
        }
    }

    @Override
    Route toOwner(ByteString key) {
        return new Live() {
            @Override
            List<String> addresses(Topology now) {
                return now.owners(now.vBucket(key));
            }
        };
    }

    @Override
    Route toReplica(ByteString key) {
        return new Live() {
            @Override
            List<String> addresses(Topology now) {
                return now.replicas(List.of(now.vBucket(key)), connections()::failing);
            }
        };
    }

    @Override
    Route toOwnerOfAll(List<ByteString> keys) {
        return new Live() {
            @Override
            List<String> addresses(Topology now) {
                return atOne(vBuckets(now, keys), now::owners);
            }
        };
    }

    private static Set<String> vBuckets(Topology now, List<ByteString> keys) {
        return keys.stream().map(now::vBucket).collect(Collectors.toCollection(LinkedHashSet::new));
    }

    /** Rejects what no node can do. While a vBucket has no node at all, it may get one that has the others too. */
    private static List<String> atOne(
            Collection<String> vBuckets, Function<Collection<String>, List<String>> nodesOf) {
        List<String> nodes = nodesOf.apply(vBuckets);
        if (nodes.isEmpty() && vBuckets.size() > 1
                && vBuckets.stream().noneMatch(v -> nodesOf.apply(List.of(v)).isEmpty())) {
            throw new UnsupportedOperationException(
                    "no node has all of the vBuckets " + vBuckets + "; make a call for the keys of each vBucket");
        }
        return nodes;
    }

    @Override
    List<Api.KVPair> multiGet(Api.ReadConsistency consistency, List<ByteString> keys) {
        Route route = consistency == LINEARIZABLE ? toOwnerOfAll(keys) : new Live() {
            @Override
            List<String> addresses(Topology now) {
                return atOne(vBuckets(now, keys), in -> now.replicas(in, connections()::failing));
            }
        };
        return multiGetVia(route, consistency, keys);
    }

    @Override
    DKVEntryIterator iterate(Api.IterateRequest request) {
        return iterateVia(new Live() {
            @Override
            List<String> addresses(Topology now) {
                return atOne(now.vBuckets(), in -> now.replicas(in, connections()::failing));
            }
        }, request);
    }

    @Override
    public void close() {
        super.close();
        watch.close();
    }
}
