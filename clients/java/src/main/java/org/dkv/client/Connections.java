package org.dkv.client;

import com.github.benmanes.caffeine.cache.Caffeine;
import com.github.benmanes.caffeine.cache.LoadingCache;
import com.github.benmanes.caffeine.cache.RemovalCause;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** The connections of a client, one per address, opened when first used and closed when idle for long. */
final class Connections implements AutoCloseable {
    private static final Duration MAX_IDLE = Duration.ofMinutes(10);
    private static final long CLOSE_SECONDS = 10;

    private final LoadingCache<String, Connection> pool;
    /** Those that the pool has dropped and that may still have calls. */
    private final Set<Connection> retired = ConcurrentHashMap.newKeySet();
    private volatile boolean closed;
    private final CountDownLatch closing = new CountDownLatch(1);

    Connections(String authority, ConnectionOptions options) {
        this(options, connector(authority != null ? authority : options.authority(), options));
    }

    Connections(ConnectionOptions options, Function<String, Connection> connect) {
        this.pool = Caffeine.newBuilder()
                .maximumSize(options.getConnectionPoolSize())
                .expireAfterAccess(MAX_IDLE)
                .executor(Runnable::run)
                .evictionListener((String address, Connection c, RemovalCause cause) -> retire(c))
                .build(connect::apply);
    }

    /** Returns what opens connections: all of them show the same credentials. */
    private static Function<String, Connection> connector(String authority, ConnectionOptions options) {
        ChannelCredentials tls =
                options.tls() ? new TlsFiles(options).credentials() : InsecureChannelCredentials.create();
        CallCredentials caller = options.token() == null ? null : new BearerToken(options.token());
        return address -> Connection.to(
                HostPort.targetOf(address), authority != null ? authority : HostPort.authorityOf(address), options, tls,
                caller);
    }

    private void retire(Connection c) {
        retired.removeIf(Connection::isClosed);
        retired.add(c);
        c.retire();
    }

    /**
     * Returns the connection to an address.
     *
     * @throws IllegalStateException once closed
     */
    Connection get(String address) {
        checkOpen();
        Connection c = pool.get(address);
        if (closed) { // while the connection was being made
            c.abort();
            checkOpen();
        }
        return c;
    }

    void checkOpen() {
        if (closed) {
            throw new IllegalStateException("the client is closed");
        }
    }

    boolean isClosed() {
        return closed;
    }

    /** Waits, at most until the client is closed. */
    void pause(long nanos) throws InterruptedException {
        closing.await(nanos, TimeUnit.NANOSECONDS);
    }

    /** Reports whether an address is known not to answer. */
    boolean failing(String address) {
        Connection c = pool.getIfPresent(address);
        return c != null && c.failing();
    }

    /** Cancels the calls in progress and waits until the connections are closed. */
    @Override
    public void close() {
        closed = true;
        closing.countDown();
        List<Connection> all = new ArrayList<>(pool.asMap().values());
        all.addAll(retired);
        all.forEach(Connection::abort);
        try {
            for (Connection c : all) {
                c.awaitClosed(CLOSE_SECONDS, TimeUnit.SECONDS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        pool.invalidateAll();
    }
}
