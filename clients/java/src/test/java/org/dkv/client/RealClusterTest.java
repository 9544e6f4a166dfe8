package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import dkv.serverpb.Admin;
import dkv.serverpb.DKVNodeGrpc;
import io.grpc.CallOptions;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** The client against three masters that keep four vBuckets. */
@EnabledIf(value = "org.dkv.client.ServerProcess#available", disabledReason = "there is no bin/dkvsrv; run make build")
@Timeout(110)
class RealClusterTest {
    private static final int INCREMENTS = 40;

    @TempDir
    private static Path folder;
    private static final List<ServerProcess> nodes = new ArrayList<>();

    @BeforeAll
    static void start() throws Exception {
        List<String> urls = List.of(url(), url(), url());
        for (int i = 0; i < 3; i++) {
            nodes.add(new ServerProcess(
                    folder, "m" + i, "--role", "master", "--vbuckets", "4", "--disable-discovery-client",
                    "--nexus-node-url", urls.get(i), "--nexus-cluster-url", String.join(",", urls)).start());
        }
        try (DKVClient c = client()) {
            c.put("warm", "up");
        } catch (DKVException e) {
            throw new AssertionError(logs(), e);
        }
    }

    private static String url() {
        return "http://" + Addresses.next();
    }

    private static String logs() {
        return nodes.stream().map(ServerProcess::log).collect(Collectors.joining("\n"));
    }

    @AfterAll
    static void stop() {
        nodes.forEach(ServerProcess::close);
    }

    private static DKVClient client() {
        return new SimpleDKVClient(
                nodes.stream().map(n -> n.address).collect(Collectors.joining(",")),
                ConnectionOptions.builder().requestTimeout(40_000).build());
    }

    @Test
    void anyNodeAnswersForAll() {
        for (ServerProcess n : nodes) {
            if (!n.alive()) {
                continue; // the other test has killed it
            }
            try (DKVClient c = new SimpleDKVClient(
                    n.address, ConnectionOptions.builder().requestTimeout(40_000).build())) {
                for (int i = 0; i < 8; i++) {
                    c.put("any" + i, n.address);
                    assertEquals(n.address, c.get(LINEARIZABLE, "any" + i));
                }
                assertEquals(2, c.multiGet(LINEARIZABLE, new String[] {"any1", "any2"}).length);
                assertEquals("any0", c.iterate("any", "any").next().getKeyAsString());
                c.get(SEQUENTIAL, "any0");
            }
        }
    }

    /** Returns the node that leads most, by asking all. */
    private static ServerProcess leader() {
        ServerProcess best = nodes.get(0);
        long most = -1;
        ConnectionOptions options = ConnectionOptions.builder().build();
        try (Connections pool = new Connections(null, options)) {
            for (ServerProcess n : nodes) {
                Admin.NodeStatusResponse status = ClientCalls.blockingUnaryCall(
                        pool.get(n.address).calls(), DKVNodeGrpc.getGetNodeStatusMethod(),
                        CallOptions.DEFAULT.withDeadlineAfter(20, TimeUnit.SECONDS), Empty.getDefaultInstance());
                long leads = status.getVBucketsList().stream().filter(Admin.VBucketStatus::getIsLeader).count();
                if (leads > most) {
                    most = leads;
                    best = n;
                }
            }
        } catch (StatusRuntimeException e) {
            throw new AssertionError(logs(), e);
        }
        return best;
    }

    @Test
    void countersAreExactThroughTheDeathOfALeader() throws Exception {
        int threads = 4;
        ServerProcess victim = leader();
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        CountDownLatch begun = new CountDownLatch(threads * INCREMENTS / 4);
        try (DKVClient c = client()) {
            List<Future<?>> all = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                byte[] counter = ("counter" + t).getBytes(StandardCharsets.UTF_8); // in several vBuckets
                byte[] shared = "shared".getBytes(StandardCharsets.UTF_8);
                all.add(pool.submit(() -> {
                    for (int i = 0; i < INCREMENTS; i++) {
                        c.incrementAndGet(counter);
                        c.addAndGet(shared, 2);
                        begun.countDown();
                    }
                }));
            }
            assertTrue(begun.await(60, TimeUnit.SECONDS), RealClusterTest::logs);
            victim.kill();
            for (Future<?> f : all) {
                f.get(90, TimeUnit.SECONDS);
            }
            for (int t = 0; t < threads; t++) {
                assertEquals(INCREMENTS, c.addAndGet(("counter" + t).getBytes(StandardCharsets.UTF_8), 0));
            }
            assertEquals(2L * INCREMENTS * threads, c.addAndGet("shared".getBytes(StandardCharsets.UTF_8), 0));
        } finally {
            pool.shutdownNow();
            victim.start();
        }
    }
}
