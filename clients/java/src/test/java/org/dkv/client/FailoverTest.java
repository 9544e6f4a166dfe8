package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Api;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.net.ssl.SSLHandshakeException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Which node a call goes to after one that does not serve it. */
@Timeout(60)
class FailoverTest {
    private static final Api.PutRequest PUT = Api.PutRequest.newBuilder().setKey(Bytes.key("k")).build();
    private static final Api.PutRequest AGAIN = PUT.toBuilder().setValue(Bytes.key("again")).build();
    private static final Api.GetRequest GET = Api.GetRequest.newBuilder().setKey(Bytes.key("k")).build();

    private final FakeNode first = new FakeNode();
    private final FakeNode second = first.replica();
    private final ConnectionOptions options = ConnectionOptions.builder().requestTimeout(20_000).build();
    private final Connections connections = new Connections(null, options);
    private final Caller caller = new Caller(connections, new CallMetrics(options), Caller.REPEAT_WITHIN_NANOS);
    private final CountDownLatch release = new CountDownLatch(1);

    @AfterEach
    void stop() {
        release.countDown();
        connections.close();
        first.close();
        second.close();
    }

    private Route both() {
        return new Candidates(List.of(first.address(), second.address()), connections);
    }

    private void firstHangs() {
        first.onRequest((q, apply) -> {
            try {
                release.await(50, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt(); // the server is being stopped
            }
            return apply.get();
        });
    }

    /** A node that hangs, such as a process that was stopped, keeps its connections. */
    @Test
    void aNodeThatHangsLeavesTimeForAnother() {
        firstHangs();
        caller.call(Rpc.GET, () -> GET, () -> GET, both(), TimeUnit.SECONDS.toNanos(6));
        assertEquals(1, second.requests.size());
        caller.call(Rpc.GET, () -> GET, () -> GET, both(), TimeUnit.SECONDS.toNanos(6));
        assertEquals(1, first.requests.size(), "it is not asked first any more");
    }

    /** The other node may be about to start again, or to elect a leader. */
    @Test
    void aNodeThatHangsLeavesTimeForAnotherThatHasFailedBefore() {
        firstHangs();
        second.onRequest((q, apply) -> {
            if (second.requests.size() == 1) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_APPLIED");
            }
            return apply.get();
        });
        Route route = new Candidates(List.of(second.address(), first.address()), connections);
        caller.call(Rpc.GET, () -> GET, () -> GET, route, TimeUnit.SECONDS.toNanos(6));
        assertEquals(2, second.requests.size());
    }

    @Test
    void aWriteIsRepeatedAtAnotherNodeThanTheOneThatHangs() {
        firstHangs();
        caller.call(Rpc.PUT, () -> PUT, () -> AGAIN, both(), TimeUnit.SECONDS.toNanos(6));
        assertEquals(List.of(AGAIN), second.requests);
    }

    @Test
    void aWriteWithoutAnIdHasAllTheTimeAtItsNode() {
        first.onRequest((q, apply) -> {
            try {
                release.await(4, TimeUnit.SECONDS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt(); // the server is being stopped
            }
            return apply.get();
        });
        caller.call(Rpc.PUT, () -> PUT, null, both(), TimeUnit.SECONDS.toNanos(20));
        assertEquals(List.of(), second.requests);
    }

    @Test
    void anAnswerEndsTheSuspicion() {
        caller.call(Rpc.GET, () -> GET, () -> GET, both(), TimeUnit.SECONDS.toNanos(6));
        connections.get(first.address()).unanswered();
        assertTrue(connections.failing(first.address()));
        caller.call(Rpc.GET, () -> GET, () -> GET, new Candidates(List.of(first.address()), connections), TimeUnit.SECONDS.toNanos(6));
        assertFalse(connections.failing(first.address()));
    }

    /** A removed node goes on to run, and says that another one is to be asked. */
    @Test
    void removedNodesArePassedBy() {
        first.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_REMOVED");
        });
        String nodes = first.address() + "," + second.address();
        for (int i = 0; i < 6; i++) { // each client begins with one of the nodes
            try (DKVClient c = new SimpleDKVClient(nodes, options)) {
                c.put("k", "v");
                assertEquals("v", c.get(LINEARIZABLE, "k"));
                assertEquals("v", c.iterate("").next().getValueAsString());
            }
        }
        try (DKVClient c = new SimpleDKVClient(first.address(), options)) {
            int before = first.requests.size();
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
            assertEquals(before + 1, first.requests.size(), "there is no other one");
        }
    }

    /** A promotion makes the masters slaves, which go on to run. */
    @Test
    void slavesLeaveWritesToMasters() {
        first.onRequest((q, apply) -> {
            if (q instanceof Api.GetRequest) {
                return apply.get();
            }
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_SLAVE");
        });
        String nodes = first.address() + "," + second.address();
        for (int i = 0; i < 6; i++) { // each client begins with one of the nodes
            try (DKVClient c = new SimpleDKVClient(nodes, options)) {
                c.put("k", "v" + i);
                assertEquals("v" + i, c.get(LINEARIZABLE, "k"));
            }
        }
    }

    /** A node that was started again as one of the registry keeps no keys; the others do. */
    @Test
    void nodesOfTheRegistryLeaveCallsToOthers() {
        first.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.UNIMPLEMENTED, "NOT_APPLIED");
        });
        String nodes = first.address() + "," + second.address();
        for (int i = 0; i < 6; i++) { // each client begins with one of the nodes
            try (DKVClient c = new SimpleDKVClient(nodes, options)) {
                c.put("k", "v" + i);
                assertEquals("v" + i, c.get(LINEARIZABLE, "k"));
            }
        }
        try (DKVClient c = new SimpleDKVClient(first.address(), options)) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(Status.Code.UNIMPLEMENTED, e.getGrpcStatus().getCode());
        }
    }

    /** A node of another cluster at one address says nothing of the others, though they have no leader just then. */
    @Test
    void aNodeOfAnotherClusterDoesNotEndACallThatAnotherNodeServesLater() {
        first.onRequest((q, apply) -> {
            if (first.requests.size() == 1) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_OWNER");
            }
            return apply.get();
        });
        second.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "OTHER_CLUSTER");
        });
        caller.call(Rpc.PUT, () -> PUT, () -> AGAIN, both(), TimeUnit.SECONDS.toNanos(20));
        assertEquals(2, first.requests.size());
        first.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_SLAVE");
        });
        DKVException e = assertThrows(
                DKVException.class, () -> caller.call(Rpc.PUT, () -> PUT, () -> AGAIN, both(), TimeUnit.SECONDS.toNanos(20)));
        assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
    }

    /** The others may elect a leader just then. */
    @Test
    void removedNodesDoNotEndACallThatAnotherNodeServesLater() {
        first.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_REMOVED");
        });
        second.onRequest((q, apply) -> {
            if (second.requests.size() < 3) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_OWNER");
            }
            return apply.get();
        });
        caller.call(Rpc.PUT, () -> PUT, () -> AGAIN, both(), TimeUnit.SECONDS.toNanos(20));
        assertEquals(3, second.requests.size());
    }

    /** Connections break and come back while their nodes are put into an order. */
    @Test
    void manyNodesAreOrderedWhileTheirConnectionsChange() {
        try (Connections changing = new Connections(
                ConnectionOptions.builder().build(), address -> new Connection(new Changing(), null))) {
            List<String> addresses = IntStream.range(0, 500).mapToObj(i -> "h:" + (1 + i)).collect(Collectors.toList());
            addresses.forEach(changing::get);
            for (int i = 0; i < 50; i++) {
                Candidates order = assertDoesNotThrow(() -> new Candidates(addresses, changing));
                assertEquals(addresses.size(), order.size());
            }
        }
    }

    /** A certificate that is being replaced at one node does not matter to the others. */
    @Test
    void aHandshakeThatFailsDoesNotEndACallThatAnotherNodeServesLater() {
        first.onRequest((q, apply) -> {
            if (first.requests.size() == 1) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_OWNER");
            }
            return apply.get();
        });
        Status handshake = Status.UNAVAILABLE.withCause(new SSLHandshakeException("expired"));
        callWith(List.of(first.address(), "gone:1"), handshake.asRuntimeException());
        assertEquals(2, first.requests.size());
        DKVException e = assertThrows(DKVException.class, () -> callWith(List.of("gone:1"), handshake.asRuntimeException()));
        assertEquals(Status.Code.UNAVAILABLE, e.getGrpcStatus().getCode());
    }

    /** What a limit has rejected goes to another node if no connection can be made to the first any more. */
    @Test
    void aNodeThatIsGoneAfterALimitIsLeft() {
        callWith(List.of("gone:1", first.address()), FakeNode.limited(1), Status.DEADLINE_EXCEEDED.asRuntimeException());
        assertEquals(1, first.requests.size());
    }

    /** Makes a call while the attempts at one address fail so, before they are sent, and again and again with the last. */
    private void callWith(List<String> addresses, StatusRuntimeException... failures) {
        Iterator<StatusRuntimeException> next = List.of(failures).iterator();
        AtomicReference<StatusRuntimeException> now = new AtomicReference<>();
        try (Connections some = new Connections(options, address -> address.equals("gone:1")
                ? new Connection(new Failing(() -> next.hasNext() ? now.updateAndGet(e -> next.next()) : now.get()), null)
                : Connection.to(address, null, options, InsecureChannelCredentials.create(), null))) {
            new Caller(some, new CallMetrics(options), Caller.REPEAT_WITHIN_NANOS).call(
                    Rpc.GET, () -> GET, () -> GET, new Candidates(addresses, some), TimeUnit.SECONDS.toNanos(20));
        }
    }

    /** A channel that seems to stand, whose calls fail. */
    private static final class Failing extends Changing {
        private final Supplier<StatusRuntimeException> failure;

        Failing(Supplier<StatusRuntimeException> failure) {
            this.failure = failure;
        }

        @Override
        public ConnectivityState getState(boolean connect) {
            return ConnectivityState.READY;
        }

        @Override
        public <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, CallOptions callOptions) {
            return new ClientCall<Q, R>() {
                @Override
                public void start(Listener<R> listener, Metadata headers) {
                    StatusRuntimeException e = failure.get();
                    listener.onClose(e.getStatus(), e.getTrailers() == null ? new Metadata() : e.getTrailers());
                }

                @Override
                public void request(int messages) {}

                @Override
                public void cancel(String message, Throwable cause) {}

                @Override
                public void halfClose() {}

                @Override
                public void sendMessage(Q message) {}
            };
        }
    }

    /** A channel that fails at one moment and not at the next. */
    private static class Changing extends ManagedChannel {
        @Override
        public ConnectivityState getState(boolean connect) {
            return ThreadLocalRandom.current().nextBoolean() ? ConnectivityState.READY : ConnectivityState.TRANSIENT_FAILURE;
        }

        @Override
        public ManagedChannel shutdown() {
            return this;
        }

        @Override
        public ManagedChannel shutdownNow() {
            return this;
        }

        @Override
        public boolean isShutdown() {
            return true;
        }

        @Override
        public boolean isTerminated() {
            return true;
        }

        @Override
        public boolean awaitTermination(long timeout, TimeUnit unit) {
            return true;
        }

        @Override
        public <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, CallOptions callOptions) {
            throw new UnsupportedOperationException();
        }

        @Override
        public String authority() {
            return "h";
        }
    }
}
