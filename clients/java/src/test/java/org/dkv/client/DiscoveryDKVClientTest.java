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
import io.grpc.InsecureServerCredentials;
import io.grpc.Status;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
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

    @Test
    void callsWaitForTheTopology() throws Exception {
        DKVClient client = open();
        CompletableFuture<Void> put = CompletableFuture.runAsync(() -> client.put("k", "v"));
        registry.set(row(a, LEADER));
        put.get(30, TimeUnit.SECONDS);
        assertEquals(1, a.requests.size());
    }

    @Test
    void nobodyKnownIsUnavailable() {
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

    @Test
    void needsRegistriesAndADatabase() {
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient("discovery://", "db", null));
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient(null, "db", null));
        assertThrows(IllegalArgumentException.class, () -> new DiscoveryDKVClient("host:1", " ", null));
    }
}
