package org.dkv.client;

import dkv.serverpb.Admin;
import dkv.serverpb.DKVDiscoveryGrpc;
import io.grpc.CallOptions;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Keeps up with the registry in a thread of its own. While no registry answers, what was last known stays.
 *
 * <p>A registry that cannot be watched is asked every second.
 */
final class TopologyWatch implements AutoCloseable {
    private static final long POLL_MILLIS = 1000;
    private static final long POLL_TIMEOUT_MILLIS = 5000;
    /** A stream is silent while nothing changes; that the registry lives, keep-alive finds out. */
    private static final long FOREVER_NANOS = TimeUnit.DAYS.toNanos(365);

    private final Connections connections;
    private final Ring registries;
    private final Admin.GetClusterInfoRequest request;
    private final String dcId;
    private final Thread thread;
    private volatile Topology topology = Topology.EMPTY;

    TopologyWatch(Connections connections, List<String> registries, String database, String dcId) {
        this.connections = connections;
        this.registries = new Ring(registries);
        this.request = Admin.GetClusterInfoRequest.newBuilder().setDatabase(database).build();
        this.dcId = dcId;
        this.thread = new Thread(this::run, "dkv-topology-watch");
        thread.setDaemon(true);
        thread.start();
    }

    /** Returns what is known; nothing at first. */
    Topology topology() {
        return topology;
    }

    private void run() {
        Backoff backoff = new Backoff();
        while (!connections.isClosed()) {
            String address = registries.next();
            try {
                connections.get(address).hurry();
                if (watch(address)) {
                    backoff = new Backoff();
                }
            } catch (StatusRuntimeException e) {
                registries.failed(address);
            } catch (IllegalStateException e) {
                return; // closed
            }
            if (!sleep(TimeUnit.NANOSECONDS.toMillis(backoff.next()))) {
                return;
            }
        }
    }

    private static boolean sleep(long millis) {
        try {
            Thread.sleep(millis);
            return true;
        } catch (InterruptedException e) {
            return false;
        }
    }

    /** Follows one registry until the stream ends; tells whether it had begun. */
    private boolean watch(String address) {
        Rows rows = new Rows();
        boolean begun = false;
        try (ServerStream<Admin.GetClusterInfoRequest, Admin.ClusterInfoChange> changes = new ServerStream<>(
                connections.get(address).calls(), DKVDiscoveryGrpc.getWatchClusterInfoMethod(), request)) {
            Admin.ClusterInfoChange change;
            while ((change = changes.read(FOREVER_NANOS)) != null) {
                rows.apply(change);
                begun |= change.getComplete();
                if (begun) { // until then it is not known what is missing
                    topology = rows.topology(dcId);
                }
            }
        } catch (StatusRuntimeException e) {
            if (e.getStatus().getCode() == Status.Code.UNIMPLEMENTED) {
                poll(address);
            }
            if (!begun) {
                throw e;
            }
            registries.failed(address);
        }
        return begun;
    }

    /** Asks a registry again and again until it fails. */
    private void poll(String address) {
        do {
            Admin.GetClusterInfoResponse all = ClientCalls.blockingUnaryCall(
                    connections.get(address).calls(), DKVDiscoveryGrpc.getGetClusterInfoMethod(),
                    CallOptions.DEFAULT.withDeadlineAfter(POLL_TIMEOUT_MILLIS, TimeUnit.MILLISECONDS), request);
            topology = new Topology(all.getRegionInfosList(), dcId);
        } while (sleep(POLL_MILLIS) && !connections.isClosed());
    }

    /** Ends the thread; the connections must have been closed, or are soon. */
    @Override
    public void close() {
        thread.interrupt();
        try {
            thread.join(TimeUnit.SECONDS.toMillis(10));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** The rows of one stream so far. */
    private static final class Rows {
        private final Map<List<String>, Admin.RegionInfo> byKey = new HashMap<>();

        void apply(Admin.ClusterInfoChange change) {
            change.getGoneList().forEach(row -> byKey.remove(key(row)));
            change.getRowsList().forEach(row -> byKey.put(key(row), row));
        }

        private static List<String> key(Admin.RegionInfo row) {
            return List.of(row.getVBucket(), row.getNodeAddress());
        }

        Topology topology(String dcId) {
            return new Topology(byKey.values(), dcId);
        }
    }
}
