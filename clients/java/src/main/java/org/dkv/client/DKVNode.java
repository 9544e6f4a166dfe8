package org.dkv.client;

import java.util.Objects;

/** The gRPC address of a node. */
public final class DKVNode {
    private final String host;
    private final int port;

    /** Names a node. */
    public DKVNode(String host, int port) {
        this.host = host;
        this.port = port;
        check("node");
    }

    // For deserialization.
    private DKVNode() {
        this.host = null;
        this.port = 0;
    }

    /** Returns the host's name or address. */
    public String getHost() {
        return host;
    }

    /** Returns the port. */
    public int getPort() {
        return port;
    }

    String address() {
        return host.indexOf(':') >= 0 && !host.startsWith("[") ? "[" + host + "]:" + port : host + ":" + port;
    }

    void check(String where) {
        if (host == null || host.isBlank()) {
            throw new IllegalArgumentException(where + " has no host");
        }
        if (port < 1 || port > 65535) {
            throw new IllegalArgumentException(
                    where + ": " + host + " has port " + port + ", which is not in 1..65535");
        }
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof DKVNode && ((DKVNode) o).port == port && Objects.equals(((DKVNode) o).host, host);
    }

    @Override
    public int hashCode() {
        return Objects.hash(host, port);
    }

    @Override
    public String toString() {
        return host + ":" + port;
    }
}
