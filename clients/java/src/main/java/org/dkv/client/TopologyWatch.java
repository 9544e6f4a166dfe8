package org.dkv.client;

import dkv.serverpb.Admin;
import dkv.serverpb.DKVDiscoveryGrpc;
import io.grpc.CallOptions;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.logging.Logger;
import java.util.stream.Collectors;

/**
 * Keeps up with the registry in a thread of its own. While no registry answers, what was last known stays. Whatever goes
 * wrong with one registry, the thread goes on with the next.
 *
 * <p>A registry that cannot be watched is asked every second.
 */
final class TopologyWatch implements AutoCloseable {
    private static final Logger LOG = Logger.getLogger(TopologyWatch.class.getName());
    private static final long POLL_MILLIS = 1000;
    private static final long POLL_TIMEOUT_MILLIS = 5000;
    /**
     * How long a registry has to be heard for the next one to be asked at once. What ends sooner again and again is asked
     * ever more seldom, whatever it told.
     */
    private static final long STEADY_NANOS = TimeUnit.SECONDS.toNanos(5);
    /** A stream is silent while nothing changes; that the registry lives, keep-alive finds out. */
    private static final long FOREVER_NANOS = TimeUnit.DAYS.toNanos(365);

    private final Connections connections;
    private final Ring registries;
    private final Admin.GetClusterInfoRequest request;
    private final String dcId;
    private final Binding binding;
    /** Registries of which that was logged. */
    private final Set<String> unusable = new HashSet<>();
    private final Thread thread;
    private volatile Topology topology = Topology.EMPTY;

    TopologyWatch(Connections connections, List<String> registries, String database, String dcId) {
        this.connections = connections;
        this.registries = new Ring(usable(registries));
        this.request = Admin.GetClusterInfoRequest.newBuilder().setDatabase(database).build();
        this.dcId = dcId;
        this.binding = new Binding(database);
        this.thread = new Thread(this::run, "dkv-topology-watch");
        thread.setDaemon(true);
        thread.start();
    }

    /** Returns the addresses that may be such; the others are logged. */
    private static List<String> usable(List<String> registries) {
        List<String> out = registries.stream().filter(HostPort::mayBeTarget).collect(Collectors.toList());
        if (out.isEmpty()) {
            throw new IllegalArgumentException("none of the registries " + registries + " is host:port");
        }
        if (out.size() < registries.size()) {
            LOG.warning("of the registries " + registries + " only " + out + " can be asked; the others are not host:port");
        }
        return out;
    }

    /** Returns what is known; nothing at first. */
    Topology topology() {
        return topology;
    }

    /** Returns what was found out about another cluster than the client's; null for nothing. */
    String stranger() {
        return binding.stranger();
    }

    private void take(Collection<Admin.RegionInfo> rows) {
        String before = binding.stranger();
        topology = Topology.of(rows, binding, dcId);
        String met = binding.stranger();
        if (met != null && !met.equals(before)) {
            LOG.warning(met);
        }
    }

    private void run() {
        Backoff backoff = Backoff.ofRegistries();
        while (!connections.isClosed()) {
            String address = registries.next();
            long began = System.nanoTime();
            try {
                connections.get(address).hurry();
                watch(address);
            } catch (StatusRuntimeException e) {
                registries.failed(address);
            } catch (RuntimeException e) {
                if (connections.isClosed()) {
                    return;
                }
                if (unusable.add(address)) {
                    LOG.warning("registry " + address + " cannot be asked: " + e);
                }
                registries.failed(address);
            }
            if (System.nanoTime() - began >= STEADY_NANOS) {
                backoff = Backoff.ofRegistries();
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

    /** Follows one registry until the stream ends. */
    private void watch(String address) {
        Rows rows = new Rows();
        boolean begun = false;
        try (ServerStream<Admin.GetClusterInfoRequest, Admin.ClusterInfoChange> changes = new ServerStream<>(
                connections.get(address).calls(), DKVDiscoveryGrpc.getWatchClusterInfoMethod(), request)) {
            Admin.ClusterInfoChange change;
            long patience = TimeUnit.MILLISECONDS.toNanos(POLL_TIMEOUT_MILLIS); // to begin with
            while ((change = changes.read(patience)) != null) {
                patience = FOREVER_NANOS;
                rows.apply(change);
                begun |= change.getComplete();
                if (begun && !isSignOfLife(change)) { // until then it is not known what is missing
                    take(rows.all());
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
    }

    private static boolean isSignOfLife(Admin.ClusterInfoChange change) {
        return !change.getComplete() && change.getRowsCount() == 0 && change.getGoneCount() == 0;
    }

    /** Asks a registry again and again until it fails. */
    private void poll(String address) {
        do {
            Admin.GetClusterInfoResponse all = ClientCalls.blockingUnaryCall(
                    connections.get(address).calls(), DKVDiscoveryGrpc.getGetClusterInfoMethod(),
                    CallOptions.DEFAULT.withDeadlineAfter(POLL_TIMEOUT_MILLIS, TimeUnit.MILLISECONDS), request);
            take(all.getRegionInfosList());
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
        /** More than any database has; what comes beyond is left out. */
        private static final int MAX_ROWS = 1 << 16;
        private final Map<List<String>, Admin.RegionInfo> byKey = new HashMap<>();

        void apply(Admin.ClusterInfoChange change) {
            change.getGoneList().forEach(row -> byKey.remove(key(row)));
            for (Admin.RegionInfo row : change.getRowsList()) {
                if (byKey.size() < MAX_ROWS || byKey.containsKey(key(row))) {
                    byKey.put(key(row), row);
                }
            }
        }

        private static List<String> key(Admin.RegionInfo row) {
            return List.of(row.getVBucket(), row.getNodeAddress());
        }

        Collection<Admin.RegionInfo> all() {
            return byKey.values();
        }
    }
}
