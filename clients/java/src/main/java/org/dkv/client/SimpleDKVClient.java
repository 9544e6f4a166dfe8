package org.dkv.client;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** A client of one node, or of the nodes of one cluster, of which it uses one until that fails. */
public final class SimpleDKVClient extends RoutedClient {
    private final Ring nodes;

    /**
     * Makes a client; it connects with the first call.
     *
     * @param target {@code host:port}, several of them separated by commas, or a gRPC target such as {@code
     *     dns:///host:port}
     * @param options null means the defaults
     */
    public SimpleDKVClient(String target, ConnectionOptions options) {
        this(target, null, options);
    }

    /**
     * Makes a client whose calls carry another authority than the target's, for a proxy for example.
     *
     * @param target as in {@link #SimpleDKVClient(String, ConnectionOptions)}
     * @param authority the server's name, which its certificate must contain; null means that of the target
     * @param options null means the defaults
     */
    public SimpleDKVClient(String target, String authority, ConnectionOptions options) {
        this(target, ConnectionOptions.orDefault(options), authority);
    }

    private SimpleDKVClient(String target, ConnectionOptions options, String authority) {
        this(target, options, new Connections(authority, options));
    }

    SimpleDKVClient(String target, ConnectionOptions options, Connections connections) {
        super(connections, options);
        List<String> addresses = addresses(target, "target");
        for (String address : addresses) {
            if (!HostPort.mayBeDialled(address)) { // calls would fail whenever it is this one's turn
                throw new IllegalArgumentException("target: " + address + " is neither host:port nor a gRPC target");
            }
        }
        this.nodes = new Ring(addresses);
    }

    /**
     * Makes a client of one node.
     *
     * @param options null means the defaults
     */
    public SimpleDKVClient(String host, int port, ConnectionOptions options) {
        this(new DKVNode(host, port).address(), null, options);
    }

    /** As {@link #SimpleDKVClient(String, String, ConnectionOptions)} for one node. */
    public SimpleDKVClient(String host, int port, String authority, ConnectionOptions options) {
        this(new DKVNode(host, port).address(), authority, options);
    }

    /** Splits a list of addresses. */
    static List<String> addresses(String list, String what) {
        List<String> out = list == null ? List.of() : Arrays.stream(list.split(",")).map(String::trim)
                .filter(s -> !s.isEmpty()).distinct().collect(Collectors.toUnmodifiableList());
        if (out.isEmpty()) {
            throw new IllegalArgumentException(what + " is empty; write host:port, or several separated by commas");
        }
        return out;
    }

    @Override
    Route toOwner(ByteString key) {
        return nodes;
    }

    @Override
    Route toReplica(ByteString key) {
        return nodes;
    }

    @Override
    Route toOwnerOfAll(List<ByteString> keys) {
        return nodes;
    }

    @Override
    List<Api.KVPair> multiGet(Api.ReadConsistency consistency, List<ByteString> keys) {
        return multiGetVia(nodes, consistency, keys);
    }

    @Override
    DKVEntryIterator iterate(Api.IterateRequest request) {
        return iterateVia(nodes, request);
    }
}
