package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class LimitTest {
    private static final Api.PutRequest PUT =
            Api.PutRequest.newBuilder().setKey(ByteString.copyFromUtf8("k")).build();

    @Test
    void closingEndsAPause() throws Exception {
        ConnectionOptions options = ConnectionOptions.builder().build();
        Connections connections = new Connections(null, options);
        Caller caller = new Caller(connections, new CallMetrics(options), Caller.REPEAT_WITHIN_NANOS);
        FutureTask<Void> call = new FutureTask<>(() -> caller.retry(
                Rpc.PUT, () -> PUT, true, new Ring(List.of("127.0.0.1:1")), TimeUnit.SECONDS.toNanos(50),
                (connection, limits, repeat) -> {
                    throw FakeNode.limited(30_000);
                }));
        Thread caught = new Thread(call);
        caught.start();
        Eventually.holds("the call pauses", () -> caught.getState() == Thread.State.TIMED_WAITING);
        connections.close();
        ExecutionException e = assertThrows(ExecutionException.class, () -> call.get(10, TimeUnit.SECONDS));
        assertTrue(e.getCause() instanceof IllegalStateException || e.getCause() instanceof DKVException, e.toString());
    }

    /**
     * The pause, which is at least 4 ms longer than the server asks for, uses up the time. An attempt without any would
     * hide the limit, and that the write was surely not applied.
     */
    @Test
    void nothingIsSentWhenThePauseHasUsedUpTheTime() {
        ConnectionOptions options = ConnectionOptions.builder().build();
        AtomicInteger attempts = new AtomicInteger();
        try (Connections connections = new Connections(null, options)) {
            Caller caller = new Caller(connections, new CallMetrics(options), Caller.REPEAT_WITHIN_NANOS);
            for (int call = 1; call <= 5; call++) { // the first one, which loads classes, may take too long to be repeated
                DKVException e = assertThrows(DKVException.class, () -> caller.retry(
                        Rpc.PUT, () -> PUT, true, new Ring(List.of("127.0.0.1:1")), TimeUnit.MILLISECONDS.toNanos(200),
                        (connection, limits, repeat) -> {
                            attempts.incrementAndGet();
                            long left = limits.getDeadline().timeRemaining(TimeUnit.MILLISECONDS);
                            throw FakeNode.limited(Math.max(0, left - 2));
                        }));
                assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getGrpcStatus().getCode(), e.getMessage());
                assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
                assertEquals(call, attempts.get());
            }
        }
    }
}
