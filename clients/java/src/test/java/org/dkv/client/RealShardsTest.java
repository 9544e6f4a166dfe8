package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/**
 * The client against two shards, a master and a slave each, and against a master and a slave of a database that is cut
 * into two vBuckets. A discovery node knows them all.
 */
@EnabledIf(value = "org.dkv.client.ServerProcess#available", disabledReason = "there is no bin/dkvsrv; run make build")
@Timeout(110)
class RealShardsTest {
    private static final int SHARDS = 2;
    private static final String[] KEYS = IntStream.range(0, 10).mapToObj(i -> "key" + i).toArray(String[]::new);

    @TempDir
    private static Path folder;
    private static final List<ServerProcess> all = new ArrayList<>();
    private static final List<ServerProcess> masters = new ArrayList<>();
    private static final List<ServerProcess> slaves = new ArrayList<>();
    private static ServerProcess registry;

    @BeforeAll
    static void start() throws Exception {
        registry = start("registry", "--role", "discovery", "--disable-discovery-client", "--nexus-node-url", url());
        for (int i = 0; i < SHARDS; i++) {
            String[] shard = {"--database", "sharded", "--vbucket", Integer.toString(i)};
            masters.add(master("master" + i, shard));
            slaves.add(slave("slave" + i, shard));
        }
        String[] cut = {"--database", "cut", "--vbuckets", "2"};
        master("master", cut);
        slave("slave", cut);
    }

    private static String url() {
        return "http://" + Addresses.next();
    }

    private static ServerProcess start(String name, String... flags) throws IOException {
        ServerProcess p = new ServerProcess(folder, name, flags);
        all.add(p);
        return p.start();
    }

    private static ServerProcess node(String name, String[] identity, String... flags) throws IOException {
        String[] discovery = {
            "--discovery-service.client.discovery-service-addr", registry.address,
            "--discovery-service.client.push-status-interval", "200ms",
            "--discovery-service.client.poll-cluster-info-interval", "200ms"
        };
        return start(name, Stream.of(identity, flags, discovery).flatMap(Stream::of).toArray(String[]::new));
    }

    private static ServerProcess master(String name, String[] identity) throws IOException {
        return node(name, identity, "--role", "master", "--nexus-node-url", url());
    }

    private static ServerProcess slave(String name, String[] identity) throws IOException {
        return node(name, identity, "--role", "slave", "--db-engine", "badger", "--diskless", "--repl-mode", "stream");
    }

    @AfterAll
    static void stop() {
        Collections.reverse(all);
        all.forEach(ServerProcess::close);
    }

    private static String logs() {
        return all.stream().map(ServerProcess::log).collect(Collectors.joining("\n"));
    }

    private static ConnectionOptions patient() {
        return ConnectionOptions.builder().requestTimeout(40_000).build();
    }

    private static DKVNode at(ServerProcess p) {
        int colon = p.address.lastIndexOf(':');
        return new DKVNode(p.address.substring(0, colon), Integer.parseInt(p.address.substring(colon + 1)));
    }

    private static DKVClient sharded() {
        DKVShard[] shards = new DKVShard[SHARDS];
        for (int i = 0; i < SHARDS; i++) {
            shards[i] = new DKVShard("shard" + i, Map.of(
                    DKVNodeType.MASTER, new DKVNodeSet("masters", Set.of(at(masters.get(i)))),
                    DKVNodeType.SLAVE, new DKVNodeSet("slaves", Set.of(at(slaves.get(i))))));
        }
        return new ShardedDKVClient(new KeyHashBasedShardProvider(new ShardConfiguration(shards)), patient());
    }

    private static void exercise(DKVClient c) throws InterruptedException {
        for (String key : KEYS) {
            c.put(key, "v" + key);
            assertEquals("v" + key, c.get(LINEARIZABLE, key), RealShardsTest::logs);
        }
        for (String key : KEYS) {
            Eventually.holds(
                    key + " at a slave", () -> c.get(SEQUENTIAL, key).equals("v" + key), RealShardsTest::logs);
        }
        assertEquals(KEYS.length, c.multiGet(SEQUENTIAL, KEYS).length);
        List<String> seen = new ArrayList<>();
        c.iterate("key", "key").forEachRemaining(e -> seen.add(e.getKeyAsString()));
        assertEquals(List.of(KEYS), seen);
        byte[] counter = {'n'};
        assertEquals(5, c.addAndGet(counter, 5));
        assertEquals(4, c.decrementAndGet(counter));
    }

    @Test
    void shardedClientFindsItsWay() throws Exception {
        try (DKVClient c = sharded()) {
            exercise(c);
            assertThrows(UnsupportedOperationException.class, () -> c.multiGet(LINEARIZABLE, KEYS));
        } catch (DKVException e) {
            throw new AssertionError(logs(), e);
        }
    }

    @Test
    void eachShardHasItsOwnKeysOnly() {
        try (DKVClient c = sharded();
                DKVClient first = new SimpleDKVClient(masters.get(0).address, patient());
                DKVClient second = new SimpleDKVClient(masters.get(1).address, patient())) {
            for (int i = 0; i < 20; i++) {
                String key = "own" + i;
                c.put(key, "v");
                boolean inFirst = KeyHash.part(key.getBytes(StandardCharsets.UTF_8), SHARDS) == 0;
                assertEquals(inFirst ? "v" : "", first.get(LINEARIZABLE, key));
                assertEquals(inFirst ? "" : "v", second.get(LINEARIZABLE, key));
            }
        }
    }

    @Test
    void discoveringClientFindsItsWay() throws Exception {
        try (DKVClient c = new DiscoveryDKVClient("multi:///" + registry.address, "cut", patient())) {
            exercise(c);
            assertEquals(KEYS.length, c.multiGet(LINEARIZABLE, KEYS).length);
        } catch (DKVException e) {
            throw new AssertionError(logs(), e);
        }
    }
}
