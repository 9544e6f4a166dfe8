package org.dkv.client;

import com.google.protobuf.ByteString;
import dkv.serverpb.Admin;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Predicate;

/** The nodes that serve the vBuckets of one database, at one moment. */
final class Topology {
    static final Topology EMPTY = new Topology(List.of(), null);
    /** How many slaves a read tries before the masters: lists of slaves may be long, and many slaves dead. */
    private static final int MAX_SLAVES = 2;

    private final int parts;
    private final String dcId;
    /** The cluster hash that requests for a vBucket carry, so that other clusters reject them. */
    private final Map<String, Long> tags = new HashMap<>();
    /** By vBucket. */
    private final Map<String, List<Admin.RegionInfo>> rows = new HashMap<>();
    private final Map<String, List<String>> owners = new ConcurrentHashMap<>();

    /**
     * Makes a topology of the registry's rows.
     *
     * @param dcId the data centre whose nodes are preferred; null means none
     */
    Topology(Collection<Admin.RegionInfo> all, String dcId) {
        this(all, all.stream().mapToInt(Admin.RegionInfo::getVBuckets).max().orElse(0), Map.of(), dcId);
    }

    /** Makes a topology of the rows that a binding admits. */
    static Topology of(Collection<Admin.RegionInfo> all, Binding binding, String dcId) {
        List<Admin.RegionInfo> rows = binding.admit(all);
        return new Topology(rows, binding.layout().parts(), binding.clusters(), dcId);
    }

    private Topology(Collection<Admin.RegionInfo> all, int announced, Map<String, String> clusters, String dcId) {
        this.dcId = dcId;
        clusters.forEach((vBucket, id) -> tags.put(vBucket, KeyHash.cluster(id)));
        for (Admin.RegionInfo row : all) {
            if (row.getStatus() != Admin.RegionStatus.INACTIVE) {
                rows.computeIfAbsent(row.getVBucket(), name -> new ArrayList<>()).add(row);
            }
        }
        this.parts = Math.max(1, announced > 0 ? announced : countOfNumbered());
    }

    /** Returns the least number of vBuckets if no row gives it: their names are numbers from 0. */
    private int countOfNumbered() {
        int count = 0;
        for (String name : rows.keySet()) {
            if (name.matches("0|[1-9][0-9]{0,4}")) {
                count = Math.max(count, Integer.parseInt(name) + 1);
            }
        }
        return count;
    }

    /**
     * Returns the name of a key's vBucket.
     *
     * @throws DKVException if there are several vBuckets that are not numbered
     */
    String vBucket(ByteString key) {
        if (parts == 1) {
            if (rows.size() > 1) {
                throw DKVException.of(
                        Status.FAILED_PRECONDITION.withDescription(
                                "the registry has vBuckets " + new TreeSet<>(rows.keySet()) + " of a database that is"
                                        + " not divided by hash; use a ShardedDKVClient with its shards"),
                        "GetClusterInfo", "find the vBucket of " + Bytes.quote(key), key.toByteArray());
            }
            return rows.isEmpty() ? "0" : rows.keySet().iterator().next();
        }
        return Integer.toString(KeyHash.part(key, parts));
    }

    /** Reports whether each key has a vBucket. */
    boolean divided() {
        return parts > 1 || rows.size() == 1;
    }

    /** Reports whether there are no nodes. */
    boolean isEmpty() {
        return rows.isEmpty();
    }

    /** Returns the cluster hash that requests for a vBucket carry; 0 accepts any cluster. */
    long tag(String vBucket) {
        return tags.getOrDefault(vBucket, 0L);
    }

    /** Returns all vBuckets. */
    List<String> vBuckets() {
        if (parts == 1) {
            return List.copyOf(rows.keySet());
        }
        List<String> all = new ArrayList<>(parts);
        for (int i = 0; i < parts; i++) {
            all.add(Integer.toString(i));
        }
        return all;
    }

    /** Returns the nodes for writes of a vBucket: its leader, then those that would forward to it. */
    List<String> owners(String vBucket) {
        return owners.computeIfAbsent(vBucket, v -> ranked(List.of(v), Topology::ownerRank));
    }

    /** Returns the nodes for writes of several vBuckets at once. */
    List<String> owners(Collection<String> vBuckets) {
        return ranked(vBuckets, Topology::ownerRank);
    }

    /**
     * Returns the nodes for sequential reads of all of these vBuckets: the nearest first, slaves before masters. Of
     * many equally good slaves, some come first and the rest after the masters.
     */
    List<String> replicas(Collection<String> vBuckets, Predicate<String> failing) {
        List<String> all = ranked(vBuckets, this::replicaRank);
        List<String> masters = ranked(vBuckets, Topology::ownerRank);
        List<String> out = new ArrayList<>(all.size());
        List<String> rest = new ArrayList<>();
        int slaves = 0;
        for (String address : all) {
            boolean late = !masters.contains(address) && (failing.test(address) || ++slaves > MAX_SLAVES);
            (late ? rest : out).add(address);
        }
        out.addAll(rest);
        return out;
    }

    List<String> replicas(Collection<String> vBuckets) {
        return replicas(vBuckets, address -> false);
    }

    private interface Rank {
        /** Returns the rank of a row, the lowest is best; a negative one excludes it. */
        int of(Admin.RegionInfo row);
    }

    private static int ownerRank(Admin.RegionInfo row) {
        switch (row.getStatus()) {
            case LEADER:
                return 0;
            case PRIMARY_FOLLOWER:
                return 1;
            case SECONDARY_FOLLOWER:
                return 2;
            default:
                return -1; // a slave does not forward writes
        }
    }

    private int replicaRank(Admin.RegionInfo row) {
        int far = dcId == null || dcId.equals(row.getDcID()) ? 0 : 10;
        switch (row.getStatus()) {
            case ACTIVE_SLAVE:
                return far;
            case PRIMARY_FOLLOWER:
            case SECONDARY_FOLLOWER:
                return far + 1;
            case LEADER:
                return far + 2;
            default:
                return -1;
        }
    }

    /** Lists the nodes that have all of these vBuckets by the sum of their ranks, equals in random order. */
    private List<String> ranked(Collection<String> vBuckets, Rank rank) {
        Map<String, Integer> sums = new HashMap<>();
        Map<String, Integer> counts = new HashMap<>();
        for (String vBucket : vBuckets) {
            Admin.RegionInfo leader = newestLeader(vBucket);
            for (Admin.RegionInfo row : rows.getOrDefault(vBucket, List.of())) {
                int r = rank.of(row);
                if (r < 0) {
                    continue;
                }
                if (row.getStatus() == Admin.RegionStatus.LEADER && row != leader) {
                    r++; // it has lost leadership and has not announced it yet
                }
                sums.merge(row.getNodeAddress(), r, Integer::sum);
                counts.merge(row.getNodeAddress(), 1, Integer::sum);
            }
        }
        List<String> out = new ArrayList<>(sums.keySet());
        out.removeIf(address -> counts.get(address) < vBuckets.size());
        if (out.size() > 1) {
            Collections.shuffle(out, ThreadLocalRandom.current());
            out.sort(Comparator.comparing(sums::get));
        }
        return out;
    }

    private Admin.RegionInfo newestLeader(String vBucket) {
        Admin.RegionInfo newest = null;
        for (Admin.RegionInfo row : rows.getOrDefault(vBucket, List.of())) {
            if (row.getStatus() == Admin.RegionStatus.LEADER && (newest == null || row.getTerm() > newest.getTerm())) {
                newest = row;
            }
        }
        return newest;
    }
}
