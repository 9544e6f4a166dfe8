package org.dkv.client;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

/** Nodes of a shard, any of which may be asked. */
public final class DKVNodeSet {
    private final String name;
    private final DKVNode[] nodes;
    private final transient AtomicInteger next = new AtomicInteger();

    /** Makes a set of at least one node. */
    public DKVNodeSet(String name, Set<DKVNode> nodes) {
        this.name = name;
        this.nodes = nodes == null ? null : nodes.toArray(new DKVNode[0]);
        check("node set");
    }

    // For deserialization.
    private DKVNodeSet() {
        this.name = null;
        this.nodes = null;
    }

    /** Returns the set's name. */
    public String getName() {
        return name;
    }

    /** Returns all nodes. */
    public DKVNode[] getNodes() {
        return nodes.clone();
    }

    /** Returns the number of nodes. */
    public int getNumNodes() {
        return nodes.length;
    }

    /** Returns one node after the other. */
    public DKVNode getNextNode() {
        return nodes[Math.floorMod(next.getAndIncrement(), nodes.length)];
    }

    List<String> addresses() {
        return Arrays.stream(nodes).map(DKVNode::address).collect(Collectors.toUnmodifiableList());
    }

    /** Reports whether another set has the same name and nodes. */
    boolean isSame(DKVNodeSet other) {
        return this == other || name.equals(other.name)
                && new HashSet<>(Arrays.asList(nodes)).equals(new HashSet<>(Arrays.asList(other.nodes)));
    }

    void check(String where) {
        if (name == null || name.isBlank()) {
            throw new IllegalArgumentException(where + " has no name");
        }
        if (nodes == null || nodes.length == 0) {
            throw new IllegalArgumentException(where + " " + name + " has no nodes");
        }
        for (DKVNode node : nodes) {
            if (node == null) {
                throw new IllegalArgumentException(where + " " + name + " has a node that is null");
            }
            node.check(where + " " + name);
        }
    }

    @Override
    public String toString() {
        return name + Arrays.toString(nodes);
    }
}
