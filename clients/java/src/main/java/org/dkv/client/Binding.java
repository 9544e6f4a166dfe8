package org.dkv.client;

import dkv.serverpb.Admin;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The cluster that a client is bound to for its whole life, by the ids of its vBuckets and by its layout: the first one
 * whose rows it admits. Rows of another cluster are left out, and so are rows that cannot be used: a registry may
 * hold anything. Not safe for use by several threads.
 */
final class Binding {
    private static final int MAX_NAME = 512;

    private final String database;
    /** The ids of the vBuckets' states, as far as they are known. */
    private final Map<String, String> clusters = new HashMap<>();
    private Layout layout;
    private volatile String stranger;

    Binding(String database) {
        this.database = database;
    }

    /** Makes a copy, of what is decided so far. */
    Binding(Binding from) {
        this.database = from.database;
        this.layout = from.layout;
        this.clusters.putAll(from.clusters);
    }

    /** Returns the error about another cluster in the last rows; null if there was none. */
    String stranger() {
        return stranger;
    }

    /** Returns how the database is divided into vBuckets; UNKNOWN while that is not known. */
    Layout layout() {
        return layout == null ? Layout.UNKNOWN : layout;
    }

    /** Returns the ids of the vBuckets' states, as far as they are known. */
    Map<String, String> clusters() {
        return Map.copyOf(clusters);
    }

    /** Returns the rows that may be used, and binds the client to the cluster of the first ones. */
    List<Admin.RegionInfo> admit(Collection<Admin.RegionInfo> all) {
        List<Admin.RegionInfo> rows = new ArrayList<>(all.size());
        for (Admin.RegionInfo row : all) {
            if (usable(row)) {
                rows.add(row);
            }
        }
        if (!rows.isEmpty()) {
            bindLayout(rows);
        }
        String met = null;
        List<Admin.RegionInfo> ofLayout = new ArrayList<>(rows.size());
        for (Admin.RegionInfo row : rows) {
            if (fits(row)) {
                ofLayout.add(row);
            } else {
                met = describe(row, Layout.of(row).toString());
            }
        }
        bindClusters(ofLayout);
        List<Admin.RegionInfo> out = new ArrayList<>(ofLayout.size());
        for (Admin.RegionInfo row : ofLayout) {
            if (ours(row)) {
                out.add(row);
            } else {
                met = describe(row, "cluster " + row.getClusterID());
            }
        }
        stranger = met;
        return out;
    }

    private String describe(Admin.RegionInfo row, String what) {
        return "the registry lists node " + row.getNodeAddress() + " of " + what + ", but this client is bound to "
                + layout() + " of cluster " + clusters.getOrDefault(row.getVBucket(), clusters.values().stream()
                        .sorted().findFirst().orElse("(unnamed)"))
                + "; open a new client to use the other one";
    }

    private boolean usable(Admin.RegionInfo row) {
        return row.getStatus() != Admin.RegionStatus.INACTIVE && row.getStatus() != Admin.RegionStatus.UNRECOGNIZED
                && row.getDatabase().equals(database) && HostPort.valid(row.getNodeAddress())
                && !row.getVBucket().isEmpty() && row.getVBucket().length() <= MAX_NAME
                && row.getClusterID().length() <= MAX_NAME && row.getDcID().length() <= MAX_NAME
                && Layout.of(row) != null;
    }

    /**
     * Decides the layout of the database: the one whose rows cover most of its vBuckets, and among equals the one of
     * most nodes. A layout that was unknown before is accepted only if its rows cover all vBuckets.
     */
    private void bindLayout(List<Admin.RegionInfo> rows) {
        if (layout != null && layout.known()) {
            return;
        }
        Map<Layout, List<Admin.RegionInfo>> told = new HashMap<>();
        for (Admin.RegionInfo row : rows) {
            told.computeIfAbsent(Layout.of(row), l -> new ArrayList<>()).add(row);
        }
        Layout best = told.keySet().stream().max(Comparator
                .comparingDouble((Layout l) -> l.coverage(told.get(l)))
                .thenComparingInt(l -> nodes(told.get(l)))
                .thenComparingInt(l -> -l.parts())).orElse(Layout.UNKNOWN);
        boolean later = layout != null;
        if (!later || best.known() && best.coverage(told.get(best)) == 1
                && clusters.keySet().stream().allMatch(best::has)) {
            layout = best;
        }
    }

    private static int nodes(List<Admin.RegionInfo> rows) {
        Set<String> out = new HashSet<>();
        rows.forEach(row -> out.add(row.getNodeAddress()));
        return out.size();
    }

    private boolean fits(Admin.RegionInfo row) {
        Layout told = Layout.of(row);
        return !layout().known() || (told.known() ? told.equals(layout) : layout.has(row.getVBucket()));
    }

    /** Decides which cluster each vBucket of unknown owner belongs to: the one with the most nodes there. */
    private void bindClusters(List<Admin.RegionInfo> rows) {
        Map<String, Map<String, Integer>> counts = new HashMap<>();
        for (Admin.RegionInfo row : rows) {
            if (!row.getClusterID().isEmpty() && !clusters.containsKey(row.getVBucket())) {
                counts.computeIfAbsent(row.getVBucket(), v -> new HashMap<>()).merge(row.getClusterID(), 1, Integer::sum);
            }
        }
        counts.forEach((vBucket, ids) -> clusters.put(vBucket, ids.entrySet().stream()
                .max(Map.Entry.<String, Integer>comparingByValue().thenComparing(Map.Entry.comparingByKey()))
                .orElseThrow().getKey()));
    }

    /** Reports whether a row belongs to the cluster. A node that names none may be a slave of it, but not a master. */
    private boolean ours(Admin.RegionInfo row) {
        String cluster = clusters.get(row.getVBucket());
        if (cluster == null || cluster.equals(row.getClusterID())) {
            return true;
        }
        return row.getClusterID().isEmpty() && row.getStatus() == Admin.RegionStatus.ACTIVE_SLAVE;
    }
}
