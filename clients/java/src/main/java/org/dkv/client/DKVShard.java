package org.dkv.client;

import java.util.Arrays;
import java.util.EnumMap;
import java.util.Map;
import java.util.Objects;

/** A part of the keyspace and the nodes that serve it. Two shards of the same name are the same. */
public final class DKVShard {
    private final String name;
    private final Map<DKVNodeType, DKVNodeSet> topology;

    /** Makes a shard with at least one set of nodes. */
    public DKVShard(String name, Map<DKVNodeType, DKVNodeSet> topology) {
        this.name = name;
        this.topology = topology == null || topology.isEmpty() ? null : new EnumMap<>(topology);
        check("shard");
    }

    // For deserialization.
    private DKVShard() {
        this.name = null;
        this.topology = null;
    }

    /** Returns the shard's name. */
    public String getName() {
        return name;
    }

    /**
     * Returns the nodes of the first of these types that the shard has nodes of.
     *
     * @throws IllegalArgumentException if it has none
     */
    public DKVNodeSet getNodesByType(DKVNodeType... types) {
        for (DKVNodeType type : types) {
            DKVNodeSet nodes = topology.get(type);
            if (nodes != null) {
                return nodes;
            }
        }
        throw new IllegalArgumentException(
                "shard " + name + " has no nodes of type " + Arrays.toString(types) + ", but "
                        + topology.keySet());
    }

    boolean has(DKVNodeType type) {
        return topology.containsKey(type);
    }

    /** Reports whether another shard has the same sets of nodes. */
    boolean hasNodesOf(DKVShard other) {
        return this == other || topology.keySet().equals(other.topology.keySet())
                && topology.keySet().stream().allMatch(type -> topology.get(type).isSame(other.topology.get(type)));
    }

    void check(String where) {
        if (name == null || name.isBlank()) {
            throw new IllegalArgumentException(where + " has no name");
        }
        if (topology == null || topology.isEmpty()) {
            throw new IllegalArgumentException(where + " " + name + " has no topology");
        }
        for (Map.Entry<DKVNodeType, DKVNodeSet> entry : topology.entrySet()) {
            if (entry.getKey() == null || entry.getValue() == null) {
                throw new IllegalArgumentException(
                        where + " " + name + ": topology has a null or unknown type or set of nodes; types are MASTER,"
                                + " SLAVE and UNKNOWN");
            }
            entry.getValue().check(where + " " + name + ": " + entry.getKey());
        }
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof DKVShard && Objects.equals(((DKVShard) o).name, name);
    }

    @Override
    public int hashCode() {
        return Objects.hashCode(name);
    }

    @Override
    public String toString() {
        return name + topology;
    }
}
