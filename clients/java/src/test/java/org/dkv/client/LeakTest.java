package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dkv.serverpb.Admin;
import dkv.serverpb.Api;
import dkv.serverpb.DKVGrpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.util.internal.PlatformDependent;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/**
 * No thread is left once clients, and the servers that this test runs itself, are closed. It comes first, since the TLS
 * servers of other tests never let go of gRPC's shared executor.
 */
@Order(1)
@Timeout(90)
class LeakTest {
    private static Set<String> threads() {
        return Thread.getAllStackTraces().keySet().stream().map(Thread::getName)
                .filter(name -> name.startsWith("grpc-") || name.startsWith("dkv-"))
                .collect(Collectors.toCollection(TreeSet::new));
    }

    /** Streams large messages without an end, and counts the streams that clients have not ended. */
    private static final class Endless extends DKVGrpc.DKVImplBase {
        final AtomicInteger open = new AtomicInteger();

        @Override
        public void iterate(Api.IterateRequest q, StreamObserver<Api.IterateResponse> out) {
            ServerCallStreamObserver<Api.IterateResponse> to = (ServerCallStreamObserver<Api.IterateResponse>) out;
            Api.IterateResponse large = Api.IterateResponse.newBuilder()
                    .addPairs(Api.KVPair.newBuilder().setKey(ByteString.copyFromUtf8("k"))
                            .setValue(ByteString.copyFrom(new byte[1 << 20]))).build();
            open.incrementAndGet();
            to.setOnCancelHandler(open::decrementAndGet);
            to.setOnReadyHandler(() -> {
                while (to.isReady()) {
                    to.onNext(large);
                }
            });
        }
    }

    @Test
    void iterationsThatAreForgottenEnd() throws Exception {
        Endless endless = new Endless();
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
                .addService(endless).directExecutor().build().start();
        ConnectionOptions patient = ConnectionOptions.builder().requestTimeout(60_000).build();
        try (DKVClient client = new SimpleDKVClient("127.0.0.1:" + server.getPort(), patient)) {
            final int iterations = 50;
            for (int i = 0; i < iterations; i++) {
                client.iterate("").next(); // neither walked to its end nor closed
            }
            long used = PlatformDependent.usedDirectMemory();
            assertTrue(used < 64 << 20, "direct memory: " + used);
            Eventually.holds("forgotten iterations end", () -> {
                System.gc();
                return endless.open.get() <= 1;
            }, () -> endless.open.get() + " are open");
        } finally {
            server.shutdownNow().awaitTermination(20, TimeUnit.SECONDS);
        }
    }

    /** A pool that is too small drops connections whose iterations go on. */
    @Test
    void closingEndsTheCallsOfConnectionsThatThePoolDropped() throws Exception {
        CountDownLatch release = new CountDownLatch(1);
        ConnectionOptions options = ConnectionOptions.builder().connectionPoolSize(1).build();
        try (FakeNode a = new FakeNode(); FakeNode b = new FakeNode()) {
            Connections connections = new Connections(null, options);
            List<ServerStream<Api.IterateRequest, Api.IterateResponse>> streams = new ArrayList<>();
            for (FakeNode node : List.of(a, b)) {
                node.onRequest((q, apply) -> {
                    try {
                        release.await(60, TimeUnit.SECONDS);
                    } catch (InterruptedException e) {
                        Thread.currentThread().interrupt(); // the server is being stopped
                    }
                    return apply.get();
                });
                streams.add(new ServerStream<>(connections.get(node.address()).calls(), Rpc.ITERATE.method(),
                        Api.IterateRequest.getDefaultInstance()));
            }
            connections.close();
            for (ServerStream<Api.IterateRequest, Api.IterateResponse> stream : streams) {
                StatusRuntimeException e =
                        assertThrows(StatusRuntimeException.class, () -> stream.read(TimeUnit.SECONDS.toNanos(30)));
                assertNotEquals(Status.Code.DEADLINE_EXCEEDED, e.getStatus().getCode());
            }
        } finally {
            release.countDown();
        }
    }

    @Test
    void nothingOutlivesClose() throws Exception {
        FakeRegistry registry = new FakeRegistry();
        ConnectionOptions patient = ConnectionOptions.builder().requestTimeout(60_000).build();
        ConnectionOptions hasty = ConnectionOptions.builder().requestTimeout(20).build();
        try (FakeNode node = new FakeNode(0, InsecureServerCredentials.create(), registry)) {
            registry.set(FakeRegistry.row("default", node, Admin.RegionStatus.LEADER));
            for (int i = 0; i < 10; i++) {
                try (DKVClient simple = new SimpleDKVClient(node.address() + "," + Addresses.next(), patient);
                        DKVClient discovery = new DiscoveryDKVClient(node.address(), "db", patient);
                        DKVClient lost = new DiscoveryDKVClient(Addresses.next(), "db", hasty)) {
                    assertThrows(DKVException.class, () -> lost.delete("k"));
                    simple.put("k", "v");
                    simple.put("l", "v");
                    discovery.get(Api.ReadConsistency.LINEARIZABLE, "k");
                    discovery.iterate("").next(); // not walked to the end
                }
            }
            assertEquals(
                    Set.of(), threads().stream().filter(t -> t.startsWith("dkv-")).collect(Collectors.toSet()));
        }
        Eventually.holds("gRPC's shared threads end", () -> threads().isEmpty(), () -> threads().toString());
    }
}
