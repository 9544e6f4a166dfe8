package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Api;
import io.grpc.Status;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ConnectionOptionsTest {
    @Test
    void hasDefaults() {
        ConnectionOptions o = ConnectionOptions.builder().build();
        assertEquals(5000, o.getReadTimeout());
        assertEquals(5000, o.getWriteTimeout());
        assertEquals(5000, o.getConnectTimeout());
        assertEquals("dkv-client-java", o.getMetricPrefix());
        assertTrue(o.isIdempotentRetries());
    }

    @Test
    void requestTimeoutIsThatOfReadsAndWritesWithoutTheirOwn() {
        ConnectionOptions o = ConnectionOptions.builder().readTimeout(100).requestTimeout(200).build();
        assertEquals(100, o.getReadTimeout());
        assertEquals(200, o.getWriteTimeout());
        assertEquals(5000, o.getConnectTimeout());
    }

    /** gRPC also has the kernel break a connection after that time whose other side confirms nothing. */
    @Test
    void lostHostsAreFoundBeforeCallsGiveUp() {
        assertTrue(TimeUnit.SECONDS.toMillis(Connection.KEEPALIVE_TIMEOUT_SECONDS) < ConnectionOptions.DEFAULT_TIMEOUT_MILLIS);
    }

    @Test
    void refusesWhatMakesNoSense() {
        ConnectionOptions.Builder b = ConnectionOptions.builder();
        assertThrows(IllegalArgumentException.class, () -> b.requestTimeout(0));
        assertThrows(IllegalArgumentException.class, () -> b.readTimeout(-1));
        assertThrows(IllegalArgumentException.class, () -> b.connectionPoolSize(0));
        assertThrows(IllegalArgumentException.class, () -> b.metricPrefix(" "));
        assertThrows(IllegalArgumentException.class, () -> b.token(null));
    }

    @Test
    void measuresCalls() {
        MeterRegistry registry = new SimpleMeterRegistry();
        ConnectionOptions options = ConnectionOptions.builder().requestTimeout(20_000).meterRegistry(registry).metricPrefix("app").build();
        try (FakeNode node = new FakeNode(); DKVClient c = new SimpleDKVClient(node.address(), options)) {
            c.put("k", "v");
            c.put("k", "v");
            c.get(Api.ReadConsistency.SEQUENTIAL, "k");
            node.onRequest((q, apply) -> {
                node.onRequest((again, doIt) -> {
                    throw FakeNode.error(Status.Code.INVALID_ARGUMENT, "NOT_APPLIED");
                });
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_APPLIED");
            });
            assertThrows(DKVException.class, () -> c.put("k", "v"));
        }
        assertEquals(2, registry.get("app.requests").tags("method", "Put", "status", "OK").timer().count());
        assertEquals(1, registry.get("app.requests").tags("method", "Get", "status", "OK").timer().count());
        assertEquals(1, registry.get("app.requests").tags("status", "INVALID_ARGUMENT").timer().count());
        assertEquals(1, registry.get("app.retries").tags("method", "Put").counter().count());
        assertNotNull(registry.get("app.requests").timer());
    }

    @Test
    void theOldestConnectionsAreClosed() {
        ConnectionOptions options = ConnectionOptions.builder().connectionPoolSize(1).build();
        try (FakeNode a = new FakeNode();
                FakeNode b = new FakeNode();
                Connections pool = new Connections(null, options)) {
            Connection first = pool.get(a.address());
            Connection second = pool.get(b.address());
            pool.get(b.address());
            assertTrue(first.isRetired() ^ second.isRetired(), "one is kept");
        }
    }
}
