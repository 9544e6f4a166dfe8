package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** The client against one standalone dkvsrv. */
@EnabledIf(value = "org.dkv.client.ServerProcess#available", disabledReason = "there is no bin/dkvsrv; run make build")
@Timeout(90)
class RealNodeTest {
    @TempDir
    private static Path folder;
    private static ServerProcess server;
    private static DKVClient client;

    @BeforeAll
    static void start() throws Exception {
        server = new ServerProcess(folder, "alone").start();
        client = new SimpleDKVClient(
                server.address, ConnectionOptions.builder().requestTimeout(30_000).build()); // which waits for it
    }

    @AfterAll
    static void stop() {
        client.close();
        server.close();
    }

    private static byte[] utf8(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    @Test
    void doesAllThatThereIsToDo() {
        client.put("all", "1");
        assertEquals("1", client.get(LINEARIZABLE, "all"));
        assertEquals("1", client.get(SEQUENTIAL, "all"));
        assertTrue(client.compareAndSet("all", "1", "2"));
        assertFalse(client.compareAndSet("all", "1", "3"));
        client.put(new KV.Strings("all.b", "b"), new KV.Strings("all.a", "a"));
        assertEquals(
                List.of("all", "all.b"),
                Arrays.stream(client.multiGet(LINEARIZABLE, new String[] {"all", "none", "all.b"}))
                        .map(KV::getKey).toList());
        List<String> seen = new ArrayList<>();
        client.iterate("all", "all").forEachRemaining(e -> seen.add(e.getKeyAsString() + "=" + e.getValueAsString()));
        assertEquals(List.of("all=2", "all.a=a", "all.b=b"), seen);
        client.delete("all");
        assertEquals("", client.get(LINEARIZABLE, "all"));
    }

    @Test
    void keepsAnyBytes() {
        byte[] odd = {(byte) 0xFF, 0, (byte) 0xC3, 0x28};
        client.put(odd, odd);
        assertArrayEquals(odd, client.get(LINEARIZABLE, odd));
        client.put(utf8("odd"), odd);
        assertThrows(DKVException.class, () -> client.get(LINEARIZABLE, "odd"));
    }

    @Test
    void honoursExpiry() {
        long now = System.currentTimeMillis() / 1000;
        client.put("past", "v", now - 5);
        assertEquals("", client.get(LINEARIZABLE, "past"));
        client.put("later", "v", now + 1000);
        assertEquals("v", client.get(LINEARIZABLE, "later"));
        byte[] counter = utf8("expiring counter");
        client.addAndGet(counter, 7, now + 1000);
        assertEquals(8, client.incrementAndGet(counter));
        assertEquals(now + 1000, client.multiGet(LINEARIZABLE, new byte[][] {counter})[0].getExpiryTS());
    }

    @Test
    void countersAreExactWhereManyCount() throws Exception {
        byte[] counter = utf8("counter");
        ExecutorService threads = Executors.newFixedThreadPool(4);
        try {
            List<Future<?>> all = new ArrayList<>();
            for (int t = 0; t < 4; t++) {
                int delta = t % 2 == 0 ? 3 : -1;
                all.add(threads.submit(() -> {
                    for (int i = 0; i < 25; i++) {
                        client.addAndGet(counter, delta);
                    }
                }));
            }
            for (Future<?> f : all) {
                f.get(60, TimeUnit.SECONDS);
            }
        } finally {
            threads.shutdownNow();
        }
        assertEquals(2 * 25 * 3 - 2 * 25, client.addAndGet(counter, 0));
    }

    @Test
    void oversizedValuesAreRefused() {
        DKVException e = assertThrows(DKVException.class, () -> client.put(utf8("big"), new byte[5 << 20]));
        assertEquals(Status.Code.INVALID_ARGUMENT, e.getGrpcStatus().getCode(), e.getMessage());
        assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
        byte[] largest = new byte[4 << 20];
        client.put(utf8("big"), largest);
        assertEquals(largest.length, client.get(LINEARIZABLE, utf8("big")).length);
        e = assertThrows(DKVException.class, () -> client.put(utf8("big"), new byte[20 << 20]));
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getGrpcStatus().getCode(), e.getMessage());
    }

    @Test
    void walksThousandsOfKeys() {
        KV.Strings[] pairs = new KV.Strings[3000];
        for (int i = 0; i < pairs.length; i++) {
            pairs[i] = new KV.Strings(String.format("many%05d", i), "v" + i);
        }
        client.put(pairs);
        int n = 0;
        try (DKVEntryIterator it = client.iterate("many01000", "many")) {
            while (it.hasNext()) {
                assertEquals(pairs[1000 + n++].getKey(), it.next().getKeyAsString());
            }
        }
        assertEquals(2000, n);
    }

    @Test
    void idsOfRequestsAreHonoured() {
        try (DKVClient plain = new SimpleDKVClient(
                server.address, ConnectionOptions.builder().idempotentRetries(false).build())) {
            plain.put("plain", "1");
            assertTrue(plain.compareAndSet("plain", "1", "2"));
        }
        for (int i = 0; i < 200; i++) {
            client.put("ids", Integer.toString(i));
        }
        assertEquals("199", client.get(LINEARIZABLE, "ids"));
    }
}
