package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ShardedDKVClientTest {
    private static final String[] KEYS =
            IntStream.range(0, 20).mapToObj(i -> String.format("key%02d", i)).toArray(String[]::new);

    private final List<FakeNode> masters = new ArrayList<>();
    private final List<FakeNode> slaves = new ArrayList<>();
    private KeyHashBasedShardProvider provider;
    private DKVClient client;

    @BeforeEach
    void start() {
        DKVShard[] shards = new DKVShard[3];
        for (int i = 0; i < shards.length; i++) {
            masters.add(new FakeNode());
            slaves.add(masters.get(i).replica());
            shards[i] = shard("shard" + i, masters.get(i).node(), slaves.get(i).node());
        }
        provider = new KeyHashBasedShardProvider(new ShardConfiguration(shards));
        client = new ShardedDKVClient(provider, ConnectionOptions.builder().requestTimeout(20_000).build());
    }

    @AfterEach
    void stop() {
        client.close();
        masters.forEach(FakeNode::close);
        slaves.forEach(FakeNode::close);
    }

    private static DKVShard shard(String name, DKVNode master, DKVNode slave) {
        Map<DKVNodeType, DKVNodeSet> topology = new EnumMap<>(DKVNodeType.class);
        if (master != null) {
            topology.put(DKVNodeType.MASTER, new DKVNodeSet("masters", Set.of(master)));
        }
        if (slave != null) {
            topology.put(DKVNodeType.SLAVE, new DKVNodeSet("slaves", Set.of(slave)));
        }
        return new DKVShard(name, topology);
    }

    private static int requests(List<FakeNode> nodes) {
        return nodes.stream().mapToInt(n -> n.requests.size()).sum();
    }

    private int shardOf(String key) {
        return Integer.parseInt(provider.provideShard(key).getName().substring("shard".length()));
    }

    @Test
    void eachKeyLivesInItsShard() {
        for (String key : KEYS) {
            client.put(key, "v");
            int shard = shardOf(key);
            assertTrue(masters.get(shard).requests.toString().contains(key), key + " in " + shard);
        }
        assertEquals(KEYS.length, requests(masters));
        assertEquals(0, requests(slaves));
    }

    @Test
    void linearizableReadsGoToMastersAndSequentialOnesToSlaves() {
        client.get(LINEARIZABLE, "k");
        assertEquals(1, requests(masters));
        client.get(SEQUENTIAL, "k");
        assertEquals(1, requests(slaves));
        client.incrementAndGet(new byte[] {1});
        assertEquals(1, requests(slaves));
    }

    @Test
    void mastersAnswerWhereSlavesDoNot() {
        client.put("k", "v");
        slaves.forEach(FakeNode::close);
        assertEquals("v", client.get(SEQUENTIAL, "k"));
    }

    /** Nothing tells the set of masters of which one is lost but these reads. */
    @Test
    void everyMasterAnswersWhereSlavesDoNot() {
        DKVNodeSet dead = new DKVNodeSet("slaves", Set.of(unused()));
        DKVNodeSet some = new DKVNodeSet("masters", Set.of(unused(), masters.get(0).node()));
        DKVShard shard = new DKVShard("s", Map.of(DKVNodeType.SLAVE, dead, DKVNodeType.MASTER, some));
        for (int i = 0; i < 8; i++) { // each client begins with one of the masters
            try (DKVClient c = new ShardedDKVClient(
                    new KeyHashBasedShardProvider(new ShardConfiguration(new DKVShard[] {shard})),
                    ConnectionOptions.builder().requestTimeout(5_000).build())) {
                assertEquals("", c.get(SEQUENTIAL, "k"));
            }
        }
    }

    private static DKVNode unused() {
        String address = Addresses.next();
        int colon = address.lastIndexOf(':');
        return new DKVNode(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
    }

    /** A provider of an application's own may read its shards again, and so name the masters that took over. */
    @Test
    void nodesThatTheProviderNamesLaterAreUsed() {
        AtomicReference<FakeNode> master = new AtomicReference<>(masters.get(0));
        ShardProvider moving = new ShardProvider() {
            @Override
            public DKVShard provideShard(byte[] key) {
                return shard("s", master.get().node(), null);
            }

            @Override
            public DKVShard provideShard(String key) {
                return provideShard(key.getBytes());
            }

            @Override
            public Map<DKVShard, List<byte[]>> provideShards(byte[]... keys) {
                return Map.of(provideShard(keys[0]), List.of(keys));
            }

            @Override
            public Map<DKVShard, List<String>> provideShards(String... keys) {
                return Map.of(provideShard(keys[0]), List.of(keys));
            }
        };
        try (DKVClient c = new ShardedDKVClient(moving, ConnectionOptions.builder().requestTimeout(20_000).build())) {
            c.put("k", "1");
            c.put("k", "2");
            assertEquals(2, masters.get(0).requests.size());
            masters.get(0).close();
            master.set(masters.get(1));
            c.put("k", "3");
            c.put(new KV.Strings("k", "4"), new KV.Strings("l", "5"));
            assertEquals(2, c.multiGet(LINEARIZABLE, new String[] {"k", "l"}).length);
            assertEquals(3, masters.get(1).requests.size());
        }
    }

    /** A proxy has one address for many sets of nodes, and tells them apart by the authority. */
    @Test
    void namesOfSetsAreAuthorities() {
        FakeNode proxy = masters.get(0);
        DKVShard shard = new DKVShard("s", Map.of(
                DKVNodeType.MASTER, new DKVNodeSet("shard0-masters", Set.of(proxy.node())),
                DKVNodeType.SLAVE, new DKVNodeSet("shard0-slaves", Set.of(proxy.node()))));
        KeyHashBasedShardProvider one = new KeyHashBasedShardProvider(new ShardConfiguration(new DKVShard[] {shard}));
        try (DKVClient c = new ShardedDKVClient(one)) {
            c.put("k", "v");
            c.get(SEQUENTIAL, "k");
            c.get(LINEARIZABLE, "k");
            c.iterate("").next();
        }
        assertEquals(List.of("shard0-masters", "shard0-slaves", "shard0-masters", "shard0-slaves"), proxy.authorities);
        proxy.authorities.clear();
        try (DKVClient c = new ShardedDKVClient(one, ConnectionOptions.builder().authority("other").build())) {
            c.put("k", "v");
        }
        assertEquals(List.of("other"), proxy.authorities);
        proxy.authorities.clear();
        DKVShard spaced = new DKVShard("s", Map.of(
                DKVNodeType.MASTER, new DKVNodeSet("all the masters", Set.of(proxy.node()))));
        try (DKVClient c = new ShardedDKVClient(
                new KeyHashBasedShardProvider(new ShardConfiguration(new DKVShard[] {spaced})))) {
            c.put("k", "v");
        }
        assertEquals(List.of(proxy.address()), proxy.authorities, "no host has such a name");
    }

    /** The time limit is that of the call, however many shards it asks. */
    @Test
    void shardsShareTheTimeOfACall() {
        slaves.forEach(slave -> slave.onRequest((q, apply) -> {
            slowly();
            return apply.get();
        }));
        masters.forEach(master -> master.onRequest((q, apply) -> {
            slowly();
            return apply.get();
        }));
        try (DKVClient c = new ShardedDKVClient(provider, ConnectionOptions.builder().requestTimeout(1_200).build())) {
            DKVException e = assertThrows(DKVException.class, () -> c.multiGet(SEQUENTIAL, KEYS));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, e.getGrpcStatus().getCode());
            e = assertThrows(DKVException.class, () -> c.iterate(""));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, e.getGrpcStatus().getCode());
        }
    }

    /** Takes so long that one shard is in time, and three are not. */
    private static void slowly() {
        try {
            Thread.sleep(700);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt(); // the server is being stopped
        }
    }

    @Test
    void sequentialMultiGetGathersInTheOrderOfTheKeys() {
        for (String key : KEYS) {
            client.put(key, "v" + key);
        }
        String[] ask = Arrays.copyOf(KEYS, KEYS.length + 1);
        ask[KEYS.length] = "missing";
        KV.Strings[] found = client.multiGet(SEQUENTIAL, ask);
        assertEquals(List.of(KEYS), Arrays.stream(found).map(KV::getKey).toList());
        assertEquals(3, requests(slaves));
    }

    @Test
    void refusesWhatShardsCannotDoAtOnce() {
        assertThrows(UnsupportedOperationException.class, () -> client.multiGet(LINEARIZABLE, KEYS));
        KV.Strings[] pairs = Arrays.stream(KEYS).map(k -> new KV.Strings(k, "v")).toArray(KV.Strings[]::new);
        UnsupportedOperationException e =
                assertThrows(UnsupportedOperationException.class, () -> client.put(pairs));
        assertTrue(e.getMessage().contains("a call per shard"), e.getMessage());
        assertEquals(0, requests(masters));
    }

    @Test
    void doesAtOnceWhatIsInOneShard() {
        provider.provideShards(KEYS).values().forEach(keys -> {
            client.put(keys.stream().map(k -> new KV.Strings(k, "v")).toArray(KV.Strings[]::new));
            assertEquals(keys.size(), client.multiGet(LINEARIZABLE, keys.toArray(new String[0])).length);
        });
        assertEquals(6, requests(masters));
    }

    @Test
    void iteratesAllShardsInOrder() {
        for (String key : KEYS) {
            client.put(key, "v");
        }
        List<String> seen = new ArrayList<>();
        client.iterate("key05", "key").forEachRemaining(e -> seen.add(e.getKeyAsString()));
        assertEquals(Arrays.asList(KEYS).subList(5, KEYS.length), seen);
    }

    /** The shards that are left are not all keys, however often one asks. */
    @Test
    void iterationsThatLostAShardStayBroken() {
        for (String key : KEYS) {
            client.put(key, "v");
        }
        slaves.get(1).stallAt = provider.provideShards(KEYS).entrySet().stream()
                .filter(e -> e.getKey().getName().equals("shard1")).findFirst().orElseThrow().getValue().get(2);
        DKVEntryIterator it = client.iterate("");
        DKVException broken = assertThrows(DKVException.class, () -> it.forEachRemaining(e -> { }));
        assertEquals(broken, assertThrows(DKVException.class, it::hasNext));
        assertEquals(broken, assertThrows(DKVException.class, it::next));
        it.close();
        assertEquals(false, it.hasNext());
    }

    @Test
    void shardsWithoutMastersTakeNoWrites() {
        DKVShard readOnly = shard("s", null, slaves.get(0).node());
        try (DKVClient c = new ShardedDKVClient(
                new KeyHashBasedShardProvider(new ShardConfiguration(new DKVShard[] {readOnly})))) {
            assertEquals("", c.get(SEQUENTIAL, "k"));
            assertThrows(IllegalArgumentException.class, () -> c.put("k", "v"));
        }
    }

    @Test
    void oneSetOfUnknownNodesDoesAll() {
        DKVNodeSet proxy = new DKVNodeSet("proxy", Set.of(masters.get(0).node()));
        DKVShard shard = new DKVShard("s", Map.of(DKVNodeType.UNKNOWN, proxy));
        try (DKVClient c = new ShardedDKVClient(
                new KeyHashBasedShardProvider(new ShardConfiguration(new DKVShard[] {shard})))) {
            c.put("k", "v");
            assertEquals("v", c.get(SEQUENTIAL, "k"));
        }
        assertThrows(IllegalArgumentException.class, () -> new ShardedDKVClient(null));
    }
}
