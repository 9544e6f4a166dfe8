package org.dkv.client;

import dkv.serverpb.Admin;
import java.util.Collection;
import java.util.HashSet;
import java.util.Objects;
import java.util.Set;

/** How a database is divided into vBuckets. */
final class Layout {
    /** Nodes of earlier releases do not report it. */
    static final Layout UNKNOWN = new Layout(0, null);
    private static final int MAX_PARTS = 1 << 16;

    private final int parts;
    /** The name of the only vBucket; several vBuckets are named by their numbers. */
    private final String only;

    private Layout(int parts, String only) {
        this.parts = parts;
        this.only = only;
    }

    /** Returns the layout in a row; UNKNOWN if it has none, null if it is not valid. */
    static Layout of(Admin.RegionInfo row) {
        int parts = row.getVBuckets();
        if (parts == 0) {
            return UNKNOWN;
        }
        Layout told = new Layout(parts, parts == 1 ? row.getVBucket() : null);
        return parts > 0 && parts <= MAX_PARTS && told.has(row.getVBucket()) ? told : null;
    }

    int parts() {
        return parts;
    }

    boolean known() {
        return parts > 0;
    }

    /** Reports whether the database may have a vBucket of this name. */
    boolean has(String vBucket) {
        if (parts < 2) {
            return parts == 0 || vBucket.equals(only);
        }
        if (vBucket.isEmpty() || vBucket.length() > 5 || !vBucket.chars().allMatch(c -> c >= '0' && c <= '9')) {
            return false;
        }
        int number = Integer.parseInt(vBucket);
        return number < parts && vBucket.equals(Integer.toString(number));
    }

    /** Returns which part of the vBuckets these rows of the layout are about. */
    double coverage(Collection<Admin.RegionInfo> rows) {
        Set<String> names = new HashSet<>();
        rows.forEach(row -> names.add(row.getVBucket()));
        return known() ? (double) names.size() / parts : names.isEmpty() ? 0 : 1;
    }

    @Override
    public boolean equals(Object o) {
        return o instanceof Layout && ((Layout) o).parts == parts && Objects.equals(((Layout) o).only, only);
    }

    @Override
    public int hashCode() {
        return Objects.hash(parts, only);
    }

    @Override
    public String toString() {
        return parts == 1 ? "1 vBucket, \"" + only + "\"" : parts + " vBuckets";
    }
}
