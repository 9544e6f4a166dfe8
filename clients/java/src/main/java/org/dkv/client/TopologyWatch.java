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
 * Follows the registry in a thread of its own. While no registry answers, or one lists no node at all, the last topology
 * stays: the nodes may live. When one registry fails for any reason, the thread tries the next.
 *
 * <p>A registry that cannot stream its changes is polled every second.
 */
final class TopologyWatch implements AutoCloseable {
    private static final Logger LOG = Logger.getLogger(TopologyWatch.class.getName());
    private static final long POLL_MILLIS = 1000;
    private static final long POLL_TIMEOUT_MILLIS = 5000;
    /**
     * How long a registry must have answered for the next one to be asked without a growing pause. One whose streams
     * end sooner is asked less and less often, whatever it answered.
     */
    private static final long STABLE_NANOS = TimeUnit.SECONDS.toNanos(5);
    /**
     * How long a stream may take to begin while no node is known: a registry without a majority rejects it only after
     * some seconds, and knows nodes all the same.
     */
    private static final long START_MILLIS = 1500;
    /** How long a stream may be silent that has shown signs of life: a registry sends one every two seconds. */
    private static final long SILENCE_NANOS = TimeUnit.SECONDS.toNanos(7);
    /** An earlier registry is silent while nothing changes; the connection's keepalive detects a dead one. */
    private static final long FOREVER_NANOS = TimeUnit.DAYS.toNanos(365);

    private final Connections connections;
    private final Ring registries;
    private final Admin.GetClusterInfoRequest request;
    private final String dcId;
    private volatile Binding binding;
    /**
     * The topology in use while it is only what a registry without a majority knew last, and the binding that it would
     * lead to; null otherwise.
     */
    private volatile Topology unproven;
    private Binding ofUnproven;
    /** Registries whose failure has been logged. */
    private final Set<String> unusable = new HashSet<>();
    private final Thread thread;
    private volatile Topology topology = Topology.EMPTY;
    private volatile Status rejection;

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

    /** Returns the addresses that are valid, and logs the others. */
    private static List<String> usable(List<String> registries) {
        List<String> out = registries.stream().filter(HostPort::mayBeTarget).collect(Collectors.toList());
        if (out.isEmpty()) {
            throw new IllegalArgumentException("none of the registries " + registries + " is host:port");
        }
        if (out.size() < registries.size()) {
            LOG.warning("of the registries " + registries + " only " + out + " can be used; the others are not host:port");
        }
        return out;
    }

    /** Returns the current topology; an empty one at first. */
    Topology topology() {
        return topology;
    }

    /** Returns the error about another cluster than the client's; null if there is none. */
    String stranger() {
        return binding.stranger();
    }

    /** Returns why the registry does not answer this client; null if it does, or was not reached. */
    Status rejection() {
        return rejection;
    }

    /** Remembers an error that is about the client and not about the registry. */
    private void rejected(String address, Status status) {
        Status.Code code = status.getCode();
        if (code != Status.Code.UNAUTHENTICATED && code != Status.Code.PERMISSION_DENIED) {
            return;
        }
        rejection = Failure.adding(status, "registry " + address);
        if (unusable.add(address)) {
            LOG.warning("registry " + address + " rejects this client: " + status);
        }
    }

    private synchronized void take(Collection<Admin.RegionInfo> rows) {
        rejection = null;
        String before = binding.stranger();
        Topology next = Topology.of(rows, binding, dcId);
        String met = binding.stranger();
        if (!next.isEmpty() || met != null) { // else it says more about the registry, such as that no node reaches it
            topology = next;
            unproven = null;
        }
        if (met != null && !met.equals(before)) {
            LOG.warning(met);
        }
    }

    /**
     * Takes the rows of a registry that may have been alone for long: its cluster may be given up, and another one have
     * its name. So they bind the client only once a node of them has served a request.
     */
    private synchronized void takeUnproven(Collection<Admin.RegionInfo> rows) {
        rejection = null;
        Binding copy = new Binding(binding);
        Topology next = Topology.of(rows, copy, dcId);
        if (!next.isEmpty()) {
            ofUnproven = copy;
            unproven = next;
            topology = next;
        }
    }

    /** Records that a node of a topology has served a request. */
    void served(Topology by) {
        if (by != null && by == unproven) {
            prove(by);
        }
    }

    private synchronized void prove(Topology by) {
        if (by == unproven) {
            binding = ofUnproven;
            unproven = null;
        }
    }

    private void run() {
        Backoff backoff = Backoff.ofRegistries();
        while (!connections.isClosed()) {
            String address = registries.next();
            long began = System.nanoTime();
            try {
                connections.get(address).connectNow();
                watch(address);
            } catch (StatusRuntimeException e) {
                rejected(address, e.getStatus());
                registries.failed(address);
            } catch (RuntimeException | Error e) { // such as a lack of memory, which may end
                if (connections.isClosed()) {
                    return;
                }
                if (unusable.add(address)) {
                    LOG.warning("registry " + address + " cannot be reached: " + e);
                }
                registries.failed(address);
            }
            if (System.nanoTime() - began >= STABLE_NANOS) {
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
        Rows rows = new Rows(Rows.MAX_ROWS);
        boolean begun = false;
        try (ServerStream<Admin.GetClusterInfoRequest, Admin.ClusterInfoChange> changes = new ServerStream<>(
                connections.get(address).calls(), DKVDiscoveryGrpc.getWatchClusterInfoMethod(), request)) {
            Admin.ClusterInfoChange change;
            long patience = TimeUnit.MILLISECONDS.toNanos(topology.isEmpty() ? START_MILLIS : POLL_TIMEOUT_MILLIS);
            while ((change = changes.read(patience)) != null) {
                if (isKeepalive(change)) {
                    patience = SILENCE_NANOS;
                } else if (patience != SILENCE_NANOS) {
                    patience = FOREVER_NANOS;
                }
                rows.apply(change);
                begun |= change.getComplete();
                if (begun && !isKeepalive(change)) { // before that, a missing row may still come
                    take(rows.all());
                }
            }
        } catch (StatusRuntimeException e) {
            if (e.getStatus().getCode() == Status.Code.UNIMPLEMENTED) {
                poll(address);
            } else if (topology.isEmpty()) {
                lookUpOnce(address);
            }
            if (!begun) {
                throw e;
            }
            registries.failed(address);
        }
    }

    private static boolean isKeepalive(Admin.ClusterInfoChange change) {
        return !change.getComplete() && change.getRowsCount() == 0 && change.getGoneCount() == 0;
    }

    /** Polls a registry until it fails. */
    private void poll(String address) {
        do {
            take(lookUp(address, POLL_TIMEOUT_MILLIS));
        } while (sleep(POLL_MILLIS) && !connections.isClosed());
    }

    /** Asks a registry that cannot be watched, maybe for lack of a majority: it may know the nodes all the same. */
    private void lookUpOnce(String address) {
        try {
            takeUnproven(lookUp(address, START_MILLIS));
        } catch (StatusRuntimeException e) {
            LOG.fine("registry " + address + " tells no nodes either: " + e); // the watch's error counts
        }
    }

    /** Asks a registry for its rows. */
    private List<Admin.RegionInfo> lookUp(String address, long timeoutMillis) {
        Admin.GetClusterInfoResponse all = ClientCalls.blockingUnaryCall(
                connections.get(address).calls(), DKVDiscoveryGrpc.getGetClusterInfoMethod(),
                CallOptions.DEFAULT.withDeadlineAfter(timeoutMillis, TimeUnit.MILLISECONDS), request);
        return all.getRegionInfosList();
    }

    /** Ends the thread; the caller closes the connections. */
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
    static final class Rows {
        /** The most rows, which is more than a registry accepts of a database unless its own limits were raised. */
        static final int MAX_ROWS = 1 << 18;
        private final Map<List<String>, Admin.RegionInfo> byKey = new HashMap<>();
        private final int max;

        /** @param max beyond how many rows those of slaves are dropped; as many again may be masters' */
        Rows(int max) {
            this.max = max;
        }

        void apply(Admin.ClusterInfoChange change) {
            change.getGoneList().forEach(row -> byKey.remove(key(row)));
            for (Admin.RegionInfo row : change.getRowsList()) {
                boolean master = row.getStatus() != Admin.RegionStatus.ACTIVE_SLAVE;
                if (byKey.size() < (master ? 2 * max : max) || byKey.containsKey(key(row))) {
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
