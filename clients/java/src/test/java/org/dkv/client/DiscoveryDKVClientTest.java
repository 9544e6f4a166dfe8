package org.dkv.client;

import static dkv.serverpb.Admin.RegionStatus.ACTIVE_SLAVE;
import static dkv.serverpb.Admin.RegionStatus.LEADER;
import static dkv.serverpb.Admin.RegionStatus.PRIMARY_FOLLOWER;
import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Admin;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.Status;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class DiscoveryDKVClientTest {
    private final FakeNode a = new FakeNode();
    private final FakeNode b = a.replica();
    private final FakeNode c = a.replica();
    private final FakeRegistry registry = new FakeRegistry();
    private final FakeNode host = new FakeNode(0, InsecureServerCredentials.create(), registry);
    private final ConnectionOptions.Builder options = ConnectionOptions.builder().requestTimeout(20_000);
    private DiscoveryDKVClient client;

    private DKVClient open() {
        client = new DiscoveryDKVClient("discovery://" + Addresses.next() + "," + host.address(), "db",
                options.build());
        return client;
    }

    @AfterEach
    void stop() {
        if (client != null) {
            client.close();
        }
        for (FakeNode n : new FakeNode[] {a, b, c, host}) {
            n.close();
        }
    }

    private static Admin.RegionInfo row(FakeNode n, Admin.RegionStatus status) {
        return FakeRegistry.row("default", n, status);
    }

    /** Of two vBuckets, "a" is in 1 and "b" in 0, by the ends of their hashes. */
    private static String keyIn(int vBucket) {
        for (int i = 0; ; i++) {
            if (KeyHash.part(("k" + i).getBytes(), 2) == vBucket) {
                return "k" + i;
            }
        }
    }

    @Test
    void writesGoToTheLeaderAndSequentialReadsToSlaves() {
        registry.set(row(a, LEADER), row(b, PRIMARY_FOLLOWER), row(c, ACTIVE_SLAVE));
        DKVClient client = open();
        client.put("k", "v");
        assertEquals("v", client.get(LINEARIZABLE, "k"));
        assertEquals(2, a.requests.size());
        assertEquals("v", client.get(SEQUENTIAL, "k"));
        assertEquals("v", client.multiGet(SEQUENTIAL, new String[] {"k"})[0].getValue());
        assertEquals("k", client.iterate("").next().getKeyAsString());
        assertEquals(3, c.requests.size());
        assertEquals(0, b.requests.size());
    }

    @Test
    void followsTheLeader() throws Exception {
        registry.set(row(a, LEADER), row(b, PRIMARY_FOLLOWER));
        DKVClient client = open();
        client.put("k", "1");
        registry.set(row(a, PRIMARY_FOLLOWER), row(b, LEADER));
        Eventually.holds("a write at the new leader", () -> {
            client.put("k", "2");
            return !b.requests.isEmpty();
        });
    }

    /** The registry tells of the new masters when the former one is a slave already. */
    @Test
    void mastersThatBecameSlavesAreLeft() {
        registry.set(row(a, LEADER));
        DKVClient client = open();
        client.put("k", "1");
        a.onRequest((q, apply) -> {
            if (a.requests.size() > 3) {
                registry.set(row(a, ACTIVE_SLAVE), row(b, LEADER));
            }
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_SLAVE");
        });
        client.put("k", "2");
        assertEquals(1, b.requests.size());
    }

    /** Writes pause before a planned promotion, for longer than the registry needs to tell of the new masters. */
    @Test
    void mastersThatBecameSlavesAfterAPauseAreLeft() {
        registry.set(row(a, LEADER));
        DKVClient client = open();
        client.put("k", "1");
        long sealed = System.nanoTime();
        a.onRequest((q, apply) -> {
            if (System.nanoTime() - sealed < TimeUnit.MILLISECONDS.toNanos(2500)) {
                throw FakeNode.error(Status.Code.UNAVAILABLE, "NOT_APPLIED");
            }
            registry.set(row(a, ACTIVE_SLAVE), row(b, LEADER));
            throw FakeNode.error(Status.Code.FAILED_PRECONDITION, "NOT_APPLIED", "NODE_SLAVE");
        });
        client.put("k", "2");
        assertEquals(1, b.requests.size());
    }

    @Test
    void followersTakeOverFromALeaderThatIsGone() {
        registry.set(row(a, LEADER), row(b, PRIMARY_FOLLOWER));
        DKVClient client = open();
        client.put("k", "1");
        a.close();
        client.put("k", "2"); // the registry does not know yet
        assertEquals("2", client.get(LINEARIZABLE, "k"));
    }

    @Test
    void learnsOfNodesThatGo() throws Exception {
        registry.set(row(a, LEADER), row(c, ACTIVE_SLAVE));
        DKVClient client = open();
        client.get(SEQUENTIAL, "k");
        assertEquals(1, c.requests.size());
        registry.remove(row(c, ACTIVE_SLAVE));
        Eventually.holds("a sequential read at the leader", () -> {
            client.get(SEQUENTIAL, "k");
            return !a.requests.isEmpty();
        });
    }

    /** Anything may have been registered: what cannot be dialled must not keep a call from the nodes that can. */
    @Test
    void rowsWithAddressesThatAreNoneAreNotUsed() {
        String[] none = {
            "", "nowhere", ":80", "0.0.0.0:80", "h:0", "h:99999", "a b:80", "[::1", "%zz:80", "http://h:80", "h:80/x", "dns:h:80",
            "[%]:80", "[::%]:80", "[:]:80", "[....]:80", "a..b:80", "..:80", "-:80", "_:80", "[fe80::1%1]:80", "1.2.3.4.5:80",
            "h:80,i:80", "h\n:80", "\u0000:80", "x".repeat(300) + ":80",
        };
        for (String address : none) {
            registry.set(row(a, LEADER).toBuilder().setNodeAddress(address).setTerm(9).build());
        }
        registry.set(row(a, LEADER));
        DKVClient client = open();
        for (int i = 0; i < 20; i++) {
            client.put("k" + i, "v");
            assertEquals("v", client.get(SEQUENTIAL, "k" + i));
        }
    }

    /** Whether it has work or not, a client asks a registry whose streams end ever more seldom. */
    @Test
    void registriesWhoseStreamsEndAreNotFlooded() throws Exception {
        registry.endsStreams();
        registry.set(row(a, LEADER));
        open().put("k", "v");
        int before = registry.streams();
        Thread.sleep(3000); // a rate is measured
        int streams = registry.streams() - before;
        assertTrue(streams <= 12, streams + " streams within 3 s");
        client.put("k", "w");
    }

    /** That it lists none may mean that none reaches it: slaves and clients may. */
    @Test
    void nodesStayWhenTheRegistryListsNone() throws Exception {
        registry.set(row(a, LEADER));
        DKVClient client = open();
        client.put("k", "v");
        registry.remove(row(a, LEADER));
        for (int i = 0; i < 50; i++) { // the registry's message arrives meanwhile
            client.put("k", "v" + i);
            Thread.sleep(2);
        }
        registry.set(row(b, LEADER));
        Eventually.holds("a write at the node that it lists", () -> {
            client.put("k", "w");
            return !b.requests.isEmpty();
        });
    }

    /** The database may live where the registry has lost its majority. */
    @Test
    void opensWhileTheRegistryHasNoMajority() {
        registry.hasNoOwner();
        registry.set(row(a, LEADER));
        open().put("k", "v");
        assertEquals(1, a.requests.size());
    }

    /** Its connection may live where it hangs, or be one to a proxy. */
    @Test
    void aRegistryThatFallsSilentIsLeft() throws Exception {
        registry.set(row(a, LEADER));
        open().put("k", "v");
        int before = registry.streams();
        registry.showsLife();
        Eventually.holds("another stream", () -> registry.streams() > before);
    }

    /** A node that restarts announces one vBucket after the other. */
    @Test
    void callsOfSeveralVBucketsWaitForOneWithoutNodes() throws Exception {
        registry.set(FakeRegistry.row("0", a, LEADER).toBuilder().setVBuckets(2).build());
        DKVClient client = open();
        client.put(keyIn(0), "v");
        CompletableFuture<Void> put = CompletableFuture.runAsync(
                () -> client.put(new KV.Strings(keyIn(0), "v"), new KV.Strings(keyIn(1), "v")));
        CompletableFuture<DKVEntry> first = CompletableFuture.supplyAsync(() -> client.iterate("").next());
        assertThrows(TimeoutException.class, () -> put.get(100, TimeUnit.MILLISECONDS));
        registry.set(FakeRegistry.row("1", a, LEADER).toBuilder().setVBuckets(2).build());
        put.get(30, TimeUnit.SECONDS);
        first.get(30, TimeUnit.SECONDS);
    }

    @Test
    void callsWaitForTheTopology() throws Exception {
        DKVClient client = open();
        CompletableFuture<Void> put = CompletableFuture.runAsync(() -> client.put("k", "v"));
        registry.set(row(a, LEADER));
        put.get(30, TimeUnit.SECONDS);
        assertEquals(1, a.requests.size());
    }

    @Test
    void noKnownNodeIsUnavailable() {
        options.requestTimeout(300);
        DKVException e = assertThrows(DKVException.class, () -> open().put("k", "v"));
        assertEquals(Status.Code.UNAVAILABLE, e.getGrpcStatus().getCode());
        assertTrue(e.getMessage().contains("no node is known"), e.getMessage());
        assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
    }

    @Test
    void asksRegistriesThatCannotBeWatched() throws Exception {
        registry.notWatchable();
        registry.set(row(a, LEADER));
        DKVClient client = open();
        client.put("k", "v");
        registry.set(row(a, PRIMARY_FOLLOWER), row(b, LEADER));
        Eventually.holds("a write at the new leader", () -> {
            client.put("k", "2");
            return !b.requests.isEmpty();
        });
    }

    @Test
    void worksOnWithoutRegistry() {
        registry.set(row(a, LEADER));
        DKVClient client = open();
        client.put("k", "v");
        host.close();
        assertEquals("v", client.get(LINEARIZABLE, "k"));
    }

    @Test
    void findsTheVBucketOfAKey() {
        registry.set(
                FakeRegistry.row("0", a, LEADER).toBuilder().setVBuckets(2).build(),
                FakeRegistry.row("1", b, LEADER).toBuilder().setVBuckets(2).build());
        DKVClient client = open();
        client.put(keyIn(0), "v");
        assertEquals(1, a.requests.size());
        client.put(keyIn(1), "v");
        assertEquals(1, b.requests.size());
        assertThrows(UnsupportedOperationException.class,
                () -> client.put(new KV.Strings(keyIn(0), "v"), new KV.Strings(keyIn(1), "v")));
        assertThrows(UnsupportedOperationException.class,
                () -> client.multiGet(LINEARIZABLE, new String[] {keyIn(0), keyIn(1)}));
        assertThrows(UnsupportedOperationException.class, () -> client.iterate(""));
    }

    @Test
    void whatConcernsSeveralVBucketsGoesToANodeWithAll() {
        registry.set(
                FakeRegistry.row("0", a, LEADER), FakeRegistry.row("1", a, PRIMARY_FOLLOWER),
                FakeRegistry.row("1", b, LEADER));
        DKVClient client = open();
        client.put(new KV.Strings(keyIn(0), "0"), new KV.Strings(keyIn(1), "1"));
        assertEquals(1, a.requests.size());
        assertEquals(2, client.multiGet(LINEARIZABLE, new String[] {keyIn(0), keyIn(1)}).length);
        assertEquals(2, client.multiGet(SEQUENTIAL, new String[] {keyIn(0), keyIn(1)}).length);
        assertEquals(3, a.requests.size());
    }

    private static Admin.RegionInfo of(String cluster, FakeNode n, Admin.RegionStatus status) {
        return row(n, status).toBuilder().setClusterID(cluster).setVBuckets(1).build();
    }

    @Test
    void someRegistryHasToBeAnAddress() {
        IllegalArgumentException e = assertThrows(
                IllegalArgumentException.class, () -> new DiscoveryDKVClient("bad host:1,nowhere", "db", null));
        assertTrue(e.getMessage().contains("bad host:1"), e.getMessage());
    }

    @Test
    void aMalformedRegistryAddressDoesNotEndTheWatch() throws Exception {
        registry.set(row(a, LEADER));
        for (String bad : new String[] {"bad host:1", "host:99999", "::::", "%zz:1", "unix:", "dns:///", "host:port"}) {
            try (DKVClient client = new DiscoveryDKVClient(bad + "," + host.address(), "db", options.build())) {
                client.put("k", bad);
                assertEquals(bad, client.get(LINEARIZABLE, "k"));
                registry.set(row(a, PRIMARY_FOLLOWER), row(b, LEADER));
                Eventually.holds("a write at the new leader after " + bad, () -> {
                    b.requests.clear();
                    client.put("k", "2");
                    return !b.requests.isEmpty();
                });
                registry.set(row(a, LEADER), row(b, PRIMARY_FOLLOWER));
            }
        }
    }

    /** Such as a lack of memory, which other threads may end. */
    @Test
    void anErrorDoesNotEndTheWatch() throws Exception {
        registry.set(row(a, LEADER));
        AtomicInteger tries = new AtomicInteger();
        Connections connections = new Connections(options.build(), address -> {
            if (tries.incrementAndGet() < 3) {
                throw new OutOfMemoryError("a test has none");
            }
            return Connection.to(address, null, options.build(), InsecureChannelCredentials.create(), null);
        });
        try (TopologyWatch watch = new TopologyWatch(connections, List.of(host.address()), "db", null)) {
            Eventually.holds("the node is known", () -> watch.topology().owners("default").equals(List.of(a.address())));
        } finally {
            connections.close();
        }
    }

    @Test
    void oneRowOfAnotherLayoutBreaksNothing() {
        registry.set(
                of("ours", a, LEADER), of("ours", b, PRIMARY_FOLLOWER),
                FakeRegistry.row("6", c, LEADER).toBuilder().setVBuckets(7).build());
        DKVClient client = open();
        for (int i = 0; i < 20; i++) {
            client.put("k" + i, "v");
            assertEquals("v", client.get(LINEARIZABLE, "k" + i));
        }
        registry.set(FakeRegistry.row("1", c, LEADER).toBuilder().setVBuckets(7).setTerm(99).build());
        for (int i = 0; i < 20; i++) {
            client.put("k" + i, "w");
        }
        client.iterate("").next();
        assertEquals(0, c.requests.size());
    }

    @Test
    void staysWithItsCluster() throws Exception {
        FakeNode other = new FakeNode();
        try {
            a.ofCluster("ours");
            other.ofCluster("theirs");
            registry.set(of("ours", a, LEADER));
            DKVClient client = open();
            client.put("k", "v");
            registry.set(of("theirs", other, LEADER).toBuilder().setTerm(99).build());
            for (int i = 0; i < 20; i++) {
                client.put("k" + i, "v");
            }
            registry.remove(of("ours", a, LEADER));
            Eventually.holds("the own cluster is missed", () -> {
                try {
                    client.put("k", "v");
                    return false;
                } catch (DKVException e) {
                    assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
                    assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
                    assertTrue(e.getMessage().contains("cluster theirs"), e.getMessage());
                    assertTrue(e.getMessage().contains("cluster ours"), e.getMessage());
                    return true;
                }
            });
            assertThrows(DKVException.class, () -> client.get(SEQUENTIAL, "k"));
            assertThrows(DKVException.class, () -> client.iterate(""));
            assertEquals(0, other.requests.size());
            // A new client uses the other cluster.
            try (DKVClient next = new DiscoveryDKVClient(host.address(), "db", options.build())) {
                next.put("k", "v");
            }
            assertEquals(1, other.requests.size());
        } finally {
            other.close();
        }
    }

    /** What the registry says after an attempt does not undo that attempt. */
    @Test
    void losingTheClusterBetweenAttemptsKeepsTheOutcome() {
        FakeNode other = new FakeNode();
        try {
            registry.set(of("ours", a, LEADER));
            DKVClient client = open();
            client.put("k", "1");
            a.onRequest((q, apply) -> {
                apply.get();
                registry.set(of("theirs", other, LEADER).toBuilder().setTerm(99).build());
                registry.remove(of("ours", a, LEADER));
                throw FakeNode.error(Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
            });
            DKVException e = assertThrows(DKVException.class, () -> client.put("k", "2"));
            assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
            assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
            assertTrue(e.getMessage().contains("cluster theirs"), e.getMessage());
            assertEquals("Put", e.getRpcName());
        } finally {
            other.close();
        }
    }

    @Test
    void anotherClusterAtAKnownAddressRefuses() {
        registry.set(of("ours", a, LEADER));
        a.ofCluster("theirs"); // the registry does not know yet
        DKVClient client = open();
        for (Runnable call : new Runnable[] {
            () -> client.put("k", "v"), () -> client.put(new KV.Strings("k", "v")), () -> client.delete("k"),
            () -> client.get(SEQUENTIAL, "k"), () -> client.get(LINEARIZABLE, "k"),
            () -> client.multiGet(SEQUENTIAL, new String[] {"k"}), () -> client.compareAndSet("k", "", "v"),
            () -> client.incrementAndGet("k".getBytes()), () -> client.iterate("").hasNext()}) {
            DKVException e = assertThrows(DKVException.class, call::run);
            assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
            assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
        }
        assertEquals(0, a.applied());
    }

    /** A registry may list an address that is another cluster's by now. */
    @Test
    void callsBeforeTheClusterIsKnownAreForItToo() throws Exception {
        a.ofCluster("theirs");
        DKVClient client = open();
        CompletableFuture<Void> put = CompletableFuture.runAsync(() -> client.put("k", "v"));
        CompletableFuture<byte[]> get = CompletableFuture.supplyAsync(() -> client.get(SEQUENTIAL, "k".getBytes()));
        CompletableFuture<DKVEntry> first = CompletableFuture.supplyAsync(() -> client.iterate("").next());
        assertThrows(TimeoutException.class, () -> put.get(100, TimeUnit.MILLISECONDS));
        registry.set(of("ours", a, LEADER));
        for (CompletableFuture<?> call : List.of(put, get, first)) {
            Throwable e = assertThrows(ExecutionException.class, () -> call.get(30, TimeUnit.SECONDS)).getCause();
            assertEquals(Status.Code.FAILED_PRECONDITION, ((DKVException) e).getGrpcStatus().getCode());
        }
        assertEquals(0, a.applied());
    }

    @Test
    void deadSlavesAreNotTriedOneAfterTheOther() {
        registry.set(row(a, LEADER));
        for (int i = 0; i < 500; i++) {
            registry.set(row(a, ACTIVE_SLAVE).toBuilder().setNodeAddress("127.0.0.2:" + (1 + i)).build());
        }
        DKVClient client = open();
        client.put("k", "v");
        for (int i = 0; i < 20; i++) {
            assertEquals("v", client.get(SEQUENTIAL, "k"));
        }
    }

    @Test
    void needsRegistriesAndADatabase() {
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient("discovery://", "db", null));
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient(null, "db", null));
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient("host:1", " ", null));
    }
}
