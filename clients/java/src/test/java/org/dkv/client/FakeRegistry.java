package org.dkv.client;

import dkv.serverpb.Admin;
import dkv.serverpb.DKVDiscoveryGrpc;
import io.grpc.Status;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** A registry whose rows the test sets. */
final class FakeRegistry extends DKVDiscoveryGrpc.DKVDiscoveryImplBase {
    private final Map<String, Admin.RegionInfo> rows = new LinkedHashMap<>();
    private final Set<StreamObserver<Admin.ClusterInfoChange>> watchers = new LinkedHashSet<>();
    private boolean watchable = true;
    private boolean ends;
    private boolean ownerless;
    private int streams;

    static Admin.RegionInfo row(String vBucket, FakeNode node, Admin.RegionStatus status) {
        return Admin.RegionInfo.newBuilder().setDatabase("db").setDcID("dc").setVBucket(vBucket)
                .setNodeAddress(node.address()).setStatus(status).build();
    }

    private static String key(Admin.RegionInfo row) {
        return row.getVBucket() + "@" + row.getNodeAddress();
    }

    synchronized void notWatchable() {
        watchable = false;
    }

    /** Has streams end when they have told all. */
    synchronized void endsStreams() {
        ends = true;
    }

    /** Has the registry lose its majority: it answers look-ups with what it knew last, and no watch for long. */
    synchronized void hasNoOwner() {
        ownerless = true;
    }

    synchronized void hasOwner() {
        ownerless = false;
    }

    /** Sends a sign of life, as registries do every two seconds, and nothing from then on. */
    synchronized void showsLife() {
        watchers.forEach(w -> w.onNext(Admin.ClusterInfoChange.getDefaultInstance()));
    }

    /** Returns how many streams there were. */
    synchronized int streams() {
        return streams;
    }

    synchronized void set(Admin.RegionInfo... changed) {
        Admin.ClusterInfoChange.Builder change = Admin.ClusterInfoChange.newBuilder().setComplete(true);
        for (Admin.RegionInfo row : changed) {
            rows.put(key(row), row);
            change.addRows(row);
        }
        watchers.forEach(w -> w.onNext(change.build()));
    }

    synchronized void remove(Admin.RegionInfo row) {
        rows.remove(key(row));
        Admin.RegionInfo gone = Admin.RegionInfo.newBuilder().setDcID(row.getDcID()).setDatabase(row.getDatabase())
                .setVBucket(row.getVBucket()).setNodeAddress(row.getNodeAddress()).build();
        watchers.forEach(w -> w.onNext(Admin.ClusterInfoChange.newBuilder().addGone(gone).build()));
    }

    @Override
    public synchronized void watchClusterInfo(
            Admin.GetClusterInfoRequest q, StreamObserver<Admin.ClusterInfoChange> out) {
        streams++;
        if (!watchable) {
            out.onError(Status.UNIMPLEMENTED.asRuntimeException());
            return;
        }
        if (ownerless) {
            return;
        }
        if (!q.getDatabase().equals("db")) {
            out.onNext(Admin.ClusterInfoChange.newBuilder().setComplete(true).build());
            return;
        }
        ((ServerCallStreamObserver<Admin.ClusterInfoChange>) out).setOnCancelHandler(() -> {
            synchronized (this) {
                watchers.remove(out);
            }
        });
        // One row a message: nothing may be believed missing before the last.
        rows.values().forEach(row -> out.onNext(Admin.ClusterInfoChange.newBuilder().addRows(row).build()));
        out.onNext(Admin.ClusterInfoChange.newBuilder().setComplete(true).build());
        if (ends) {
            out.onCompleted();
            return;
        }
        watchers.add(out);
    }

    @Override
    public synchronized void getClusterInfo(
            Admin.GetClusterInfoRequest q, StreamObserver<Admin.GetClusterInfoResponse> out) {
        out.onNext(Admin.GetClusterInfoResponse.newBuilder().addAllRegionInfos(rows.values()).build());
        out.onCompleted();
    }
}
