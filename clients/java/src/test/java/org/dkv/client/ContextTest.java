package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Context;
import io.grpc.InsecureServerCredentials;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Calls that an application makes for a gRPC request of its own end with that request. */
@Timeout(60)
class ContextTest {
    private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(10);

    private final ConnectionOptions options = ConnectionOptions.builder().requestTimeout(20_000).build();

    private static void endsEarly(Context request, Runnable call) {
        long begun = System.nanoTime();
        request.run(() -> assertThrows(DKVException.class, call::run));
        assertTrue(System.nanoTime() - begun < PATIENCE_NANOS, "the call went on after its request");
    }

    @Test
    void deadlinesEndRetries() {
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        try (FakeNode node = new FakeNode();
                DKVClient client = new SimpleDKVClient(node.address(), options)) {
            node.onRequest((q, apply) -> {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_APPLIED");
            });
            List<Runnable> calls = List.of(
                    () -> client.put("k", "v"), () -> client.get(LINEARIZABLE, "k"), () -> client.iterate(""));
            for (Runnable call : calls) {
                try (Context.CancellableContext request =
                        Context.current().withDeadlineAfter(300, TimeUnit.MILLISECONDS, timer)) {
                    endsEarly(request, call);
                }
            }
        } finally {
            timer.shutdownNow();
        }
    }

    @Test
    void cancellationEndsTheWaitForANode() {
        try (FakeNode host = new FakeNode(0, InsecureServerCredentials.create(), new FakeRegistry());
                DKVClient client = new DiscoveryDKVClient(host.address(), "db", options);
                Context.CancellableContext request = Context.current().withCancellation()) {
            request.cancel(null);
            endsEarly(request, () -> client.put("k", "v"));
        }
    }
}
