package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Message;
import dkv.serverpb.Api;
import io.grpc.Status;
import java.net.InetSocketAddress;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class RetryTest {
    private static final byte[] COUNTER = {'n'};
    /** On top of a deadline, for a busy machine. */
    private static final long SLACK_MILLIS = 500;

    private final FakeNode node = new FakeNode();
    private final ConnectionOptions.Builder options = ConnectionOptions.builder().requestTimeout(20_000);

    @AfterEach
    void stop() {
        node.close();
    }

    private SimpleDKVClient client(String... addresses) {
        return new SimpleDKVClient(String.join(",", addresses), options.build());
    }

    /** Fails the first requests, after having applied them or not. */
    private AtomicInteger failFirst(int times, boolean apply, Status.Code code, String... reasons) {
        AtomicInteger seen = new AtomicInteger();
        node.onRequest((q, doIt) -> {
            if (seen.incrementAndGet() > times) {
                return doIt.get();
            }
            if (apply) {
                doIt.get();
            }
            throw FakeNode.error(code, reasons);
        });
        return seen;
    }

    /** Fails requests with an error until there were so many. */
    private AtomicInteger failFirst(int times, RuntimeException error) {
        AtomicInteger seen = new AtomicInteger();
        node.onRequest((q, doIt) -> {
            if (seen.incrementAndGet() > times) {
                return doIt.get();
            }
            throw error;
        });
        return seen;
    }

    @Test
    void limitsAreRespected() {
        AtomicInteger seen = failFirst(1, FakeNode.limited(300));
        try (DKVClient c = client(node.address())) {
            long begun = System.nanoTime();
            c.put("k", "v");
            assertEquals(2, seen.get());
            assertTrue(System.nanoTime() - begun >= TimeUnit.MILLISECONDS.toNanos(300), "came back too early");
        }
    }

    @Test
    void limitsBeyondTheTimeAreNotWaitedFor() {
        AtomicInteger seen = failFirst(1, FakeNode.limited(3_600_000));
        try (DKVClient c = client(node.address())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getGrpcStatus().getCode());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
            assertEquals(1, seen.get());
        }
    }

    @Test
    void limitsWithoutATimeAreFinal() {
        AtomicInteger seen = failFirst(1, false, Status.Code.RESOURCE_EXHAUSTED, "NOT_APPLIED");
        try (DKVClient c = client(node.address())) {
            assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(1, seen.get());
        }
    }

    @Test
    void callersThatAreRejectedDoNotComeBack() {
        try (DKVClient c = client(node.address())) {
            AtomicInteger seen = failFirst(1, false, Status.Code.UNAUTHENTICATED, "NOT_APPLIED");
            DKVException e = assertThrows(DKVUnauthenticatedException.class, () -> c.put("k", "v"));
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
            assertEquals(1, seen.get());
            seen = failFirst(1, false, Status.Code.PERMISSION_DENIED);
            assertThrows(DKVPermissionDeniedException.class, () -> c.get(LINEARIZABLE, "k"));
            assertEquals(1, seen.get());
        }
    }

    @Test
    void readsAreRepeated() {
        failFirst(3, false, Status.Code.UNAVAILABLE);
        try (DKVClient c = client(node.address())) {
            assertEquals("", c.get(LINEARIZABLE, "k"));
            assertFalse(c.iterate("").hasNext());
        }
        assertEquals(5, node.requests.size());
    }

    @Test
    void writesThatWereAppliedUnheardAreAppliedOnce() {
        failFirst(3, true, Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
        try (DKVClient c = client(node.address())) {
            c.compareAndSet("k", null, "v");
            assertTrue(c.compareAndSet("k", "v", "w"));
        }
        Set<Api.RequestID> ids = node.requests.stream()
                .map(q -> ((Api.CompareAndSetRequest) q).getRequestId().toBuilder().clearRepeat().build())
                .collect(Collectors.toCollection(HashSet::new));
        assertEquals(2, ids.size(), "attempts of one write share its id");
    }

    @Test
    void repeatsSaySoOnceAnAttemptMayBeApplied() {
        String[] reasons = {"NOT_APPLIED", "NOT_OWNER", "OUTCOME_UNKNOWN", "NOT_APPLIED"};
        AtomicInteger seen = new AtomicInteger();
        node.onRequest((q, apply) -> {
            int i = seen.getAndIncrement();
            if (i < reasons.length) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, reasons[i]);
            }
            return apply.get();
        });
        try (DKVClient c = client(node.address())) {
            c.put("k", "v");
        }
        assertEquals(
                List.of(false, false, false, true, true),
                node.requests.stream().map(q -> ((Api.PutRequest) q).getRequestId().getRepeat())
                        .collect(Collectors.toList()));
    }

    @Test
    void whatServersHaveForgottenIsNotRepeated() {
        AtomicInteger seen = new AtomicInteger();
        node.onRequest((q, apply) -> {
            throw seen.getAndIncrement() == 0 ? FakeNode.error(Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN")
                    : FakeNode.error(Status.Code.FAILED_PRECONDITION, "TOO_LATE");
        });
        try (DKVClient c = client(node.address())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
        }
        assertEquals(2, node.requests.size());
    }

    /** It would apply a repeated write twice, whatever id it carries. */
    @Test
    void nodesOfTheEarlierSystemGetNoRepeats() {
        node.ofEarlierSystem();
        try (DKVClient c = client(node.address())) {
            AtomicInteger seen = new AtomicInteger();
            node.onRequest((q, apply) -> {
                Message answer = apply.get();
                if (q instanceof Api.CompareAndSetRequest && seen.incrementAndGet() == 1) {
                    throw FakeNode.error(Status.Code.UNAVAILABLE);
                }
                return answer;
            });
            DKVException e = assertThrows(DKVException.class, () -> c.incrementAndGet(COUNTER));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertTrue(e.getMessage().contains("knows no ids"), e.getMessage());
            assertEquals(1, seen.get());
            assertEquals(2, c.incrementAndGet(COUNTER));
            failFirst(2, false, Status.Code.UNAVAILABLE, "NOT_APPLIED");
            c.put("k", "v");
        }
    }

    /** The attempts after one that may have been applied do not reach the node, until servers may have forgotten it. */
    @Test
    void whatServersMayHaveForgottenIsNotRepeated() {
        AtomicInteger seen = new AtomicInteger();
        node.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.UNAVAILABLE, seen.getAndIncrement() == 0 ? "OUTCOME_UNKNOWN" : "NOT_APPLIED");
        });
        try (Connections connections = new Connections(null, options.build())) {
            Caller caller = new Caller(connections, new CallMetrics(options.build()), TimeUnit.SECONDS.toNanos(1));
            Api.PutRequest put = Api.PutRequest.newBuilder().setKey(Bytes.key("k")).build();
            Route route = new Candidates(List.of(node.address()), connections);
            long begun = System.nanoTime();
            DKVException e = assertThrows(
                    DKVException.class, () -> caller.call(Rpc.PUT, () -> put, () -> put, route, TimeUnit.SECONDS.toNanos(20)));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertTrue(seen.get() > 1, "it was repeated at first");
            assertTrue(System.nanoTime() - begun < TimeUnit.SECONDS.toNanos(15), "it was repeated for too long");
        }
    }

    /** Nor is what they may have forgotten while the client's machine was suspended, which only the wall clock shows. */
    @Test
    void aSuspensionCounts() {
        AtomicInteger seen = new AtomicInteger();
        AtomicLong wall = new AtomicLong();
        node.onRequest((q, apply) -> {
            seen.incrementAndGet();
            wall.addAndGet(TimeUnit.HOURS.toMillis(1));
            throw FakeNode.error(Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
        });
        try (Connections connections = new Connections(null, options.build())) {
            Caller caller = new Caller(
                    connections, new CallMetrics(options.build()), Caller.REPEAT_WITHIN_NANOS, wall::get);
            Api.PutRequest put = Api.PutRequest.newBuilder().setKey(Bytes.key("k")).build();
            Route route = new Candidates(List.of(node.address()), connections);
            DKVException e = assertThrows(
                    DKVException.class, () -> caller.call(Rpc.PUT, () -> put, () -> put, route, TimeUnit.SECONDS.toNanos(20)));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertEquals(1, seen.get());
        }
    }

    @Test
    void countersAreExactThroughLostAnswers() {
        AtomicInteger n = new AtomicInteger();
        node.onRequest((q, apply) -> {
            Message answer = apply.get();
            if (n.incrementAndGet() % 3 == 0) {
                throw FakeNode.error(Status.Code.UNAVAILABLE);
            }
            return answer;
        });
        try (DKVClient c = client(node.address())) {
            for (int i = 1; i <= 20; i++) {
                assertEquals(i, c.incrementAndGet(COUNTER));
            }
        }
    }

    @Test
    void withoutIdsWhatMayBeAppliedIsNotRepeated() {
        options.idempotentRetries(false);
        failFirst(1, true, Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
        try (DKVClient c = client(node.address())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertTrue(e.getMessage().contains("outcome unknown"), e.getMessage());
        }
        assertEquals(1, node.requests.size());
        assertFalse(((Api.PutRequest) node.requests.get(0)).hasRequestId());
    }

    @Test
    void withoutIdsWhatIsSurelyNotAppliedIsRepeated() {
        options.idempotentRetries(false);
        failFirst(2, false, Status.Code.UNAVAILABLE, "NOT_APPLIED");
        try (DKVClient c = client(node.address())) {
            c.put("k", "v");
        }
        assertEquals(3, node.requests.size());
        failFirst(2, false, Status.Code.UNAVAILABLE, "NOT_OWNER");
        try (DKVClient c = client(node.address())) {
            c.put("k", "v");
        }
    }

    @Test
    void withoutIdsWhatNeverLeftIsRepeated() {
        options.idempotentRetries(false);
        try (DKVClient c = client(Addresses.next(), Addresses.next(), node.address())) {
            c.put("k", "v");
        }
        assertEquals(1, node.requests.size());
    }

    @Test
    void otherErrorsAreNotRepeated() {
        failFirst(1, false, Status.Code.RESOURCE_EXHAUSTED, "NOT_APPLIED");
        try (DKVClient c = client(node.address())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getGrpcStatus().getCode());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
        }
        assertEquals(1, node.requests.size());
    }

    @Test
    void deadAddressesArePassedBy() {
        try (DKVClient c = client(Addresses.next(), node.address(), Addresses.next())) {
            c.put("k", "v");
            assertEquals("v", c.get(LINEARIZABLE, "k"));
        }
    }

    @Test
    void anotherNodeTakesOver() {
        try (FakeNode other = node.replica(); DKVClient c = client(node.address(), other.address())) {
            c.put("k", "v");
            (other.requests.isEmpty() ? node : other).close();
            assertEquals("v", c.get(LINEARIZABLE, "k"));
        }
    }

    @Test
    void waitsForServersThatStartLater() throws Exception {
        InetSocketAddress address = Addresses.nextSocket();
        try (DKVClient c = client(address.getAddress().getHostAddress() + ":" + address.getPort())) {
            CompletableFuture<Void> put = CompletableFuture.runAsync(() -> c.put("k", "v"));
            assertThrows(java.util.concurrent.TimeoutException.class, () -> put.get(300, TimeUnit.MILLISECONDS));
            try (FakeNode late = new FakeNode(address)) {
                put.get(30, TimeUnit.SECONDS);
                assertEquals(1, late.requests.size());
            }
        }
    }

    @Test
    void noReachableNodeIsUnavailableByTheDeadline() {
        options.requestTimeout(700);
        try (DKVClient c = client(Addresses.next())) {
            long start = System.nanoTime();
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
            assertEquals(Status.Code.UNAVAILABLE, e.getGrpcStatus().getCode());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
            assertTrue(e.getMessage().contains("onnection refused"), e.getMessage());
            assertTrue(millis < 700 + SLACK_MILLIS, millis + " ms");
        }
    }

    @Test
    void slowNodesAreGivenUpAtTheDeadline() {
        options.readTimeout(300).writeTimeout(600);
        CountDownLatch release = new CountDownLatch(1);
        node.onRequest((q, apply) -> {
            awaitQuietly(release);
            return apply.get();
        });
        try (DKVClient c = client(node.address())) {
            exceeds(300, () -> c.get(LINEARIZABLE, "k"), DKVException.Outcome.NOT_APPLIED);
            exceeds(600, () -> c.put("k", "v"), DKVException.Outcome.UNKNOWN);
            exceeds(600, () -> c.incrementAndGet(COUNTER), DKVException.Outcome.NOT_APPLIED); // it could not read
            exceeds(300, () -> c.iterate("").hasNext(), DKVException.Outcome.NOT_APPLIED);
        } finally {
            release.countDown();
        }
    }

    private static void exceeds(long timeout, Runnable call, DKVException.Outcome outcome) {
        long start = System.nanoTime();
        DKVException e = assertThrows(DKVException.class, call::run);
        long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
        assertEquals(Status.Code.DEADLINE_EXCEEDED, e.getGrpcStatus().getCode(), e.getMessage());
        assertEquals(outcome, e.getOutcome());
        assertTrue(millis >= timeout - 20 && millis < timeout + SLACK_MILLIS, millis + " ms");
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await(30, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the server is being stopped
        }
    }

    @Test
    void oversizedRequestsAreRefusedAtOnce() {
        try (DKVClient c = client(node.address())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put(COUNTER, new byte[2 << 20]));
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getGrpcStatus().getCode(), e.getMessage());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome(), "the node has not read it");
        }
    }

    @Test
    void largeAnswersArrive() {
        byte[] value = new byte[1000 << 10];
        try (DKVClient c = client(node.address())) {
            byte[][] keys = new byte[8][];
            for (byte i = 0; i < keys.length; i++) {
                keys[i] = new byte[] {i};
                c.put(keys[i], value);
            }
            assertEquals(keys.length, c.multiGet(LINEARIZABLE, keys).length); // beyond gRPC's default of 4 MiB
        }
    }

    @Test
    void closedClientsSaySo() {
        DKVClient c = client(node.address());
        c.put("k", "v");
        c.close();
        c.close();
        assertThrows(IllegalStateException.class, () -> c.put("k", "v"));
        assertThrows(IllegalStateException.class, () -> c.get(LINEARIZABLE, "k"));
        assertThrows(IllegalStateException.class, () -> c.iterate(""));
    }

    @Test
    void closingEndsCallsUnderWay() throws Exception {
        CountDownLatch arrived = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        node.onRequest((q, apply) -> {
            arrived.countDown();
            awaitQuietly(release);
            return apply.get();
        });
        DKVClient c = client(node.address());
        CompletableFuture<DKVException> failed = CompletableFuture.supplyAsync(
                () -> assertThrows(DKVException.class, () -> c.put("k", "v")));
        assertTrue(arrived.await(30, TimeUnit.SECONDS));
        c.close();
        DKVException e = failed.get(30, TimeUnit.SECONDS);
        release.countDown();
        assertEquals(Status.Code.CANCELLED, e.getGrpcStatus().getCode());
        assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
    }

    /** A write that may have been applied is not one that the closed client never made. */
    @Test
    void closingBetweenAttemptsKeepsTheOutcome() {
        failFirst(1, true, Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
        Connections connections = new Connections(null, options.build());
        Route closing = new Route() {
            @Override
            public String next() {
                return node.address();
            }

            @Override
            public void failed(String address) {
                connections.close(); // before the pause
            }

            @Override
            public int size() {
                return 1;
            }
        };
        Api.PutRequest put = Api.PutRequest.newBuilder().setKey(Bytes.key("k")).build();
        Caller caller = new Caller(connections, new CallMetrics(options.build()), Caller.REPEAT_WITHIN_NANOS);
        DKVException e = assertThrows(
                DKVException.class, () -> caller.call(Rpc.PUT, () -> put, () -> put, closing, TimeUnit.SECONDS.toNanos(20)));
        assertEquals(Status.Code.CANCELLED, e.getGrpcStatus().getCode());
        assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
        assertTrue(e.getSuppressed()[0] instanceof IllegalStateException, "it says where the call ended");
        assertEquals(1, node.requests.size());
    }

    @Test
    void interruptsEndCallsAndStayVisible() {
        failFirst(Integer.MAX_VALUE, false, Status.Code.UNAVAILABLE, "NOT_APPLIED");
        try (DKVClient c = client(node.address())) {
            Thread.currentThread().interrupt();
            assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertTrue(Thread.interrupted());
        }
    }

    @Test
    void brokenIterationsDoNotLookComplete() {
        try (DKVClient c = client(node.address())) {
            c.put("k", "v");
            node.onRequest((q, apply) -> {
                throw FakeNode.error(Status.Code.DATA_LOSS);
            });
            DKVException e = assertThrows(DKVException.class, () -> c.iterate(""));
            assertEquals(Status.Code.DATA_LOSS, e.getGrpcStatus().getCode());
            assertEquals("Iterate prefix \"\" from \"\"", e.getRequest());
        }
    }
}
