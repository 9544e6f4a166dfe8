package org.dkv.client;

import static dkv.serverpb.Admin.RegionStatus.LEADER;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dkv.serverpb.Admin;
import io.grpc.InsecureServerCredentials;
import io.grpc.Status;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** A registry that has lost its majority answers with what it knew last, of whatever time that is. */
@Timeout(60)
class LonelyRegistryTest {
    private final FakeNode a = new FakeNode();
    private final FakeNode b = new FakeNode();
    private final FakeRegistry registry = new FakeRegistry();
    private final FakeNode host = new FakeNode(0, InsecureServerCredentials.create(), registry);
    private final ConnectionOptions options = ConnectionOptions.builder().requestTimeout(20_000).build();

    @AfterEach
    void stop() {
        for (FakeNode n : new FakeNode[] {a, b, host}) {
            n.close();
        }
    }

    private static Admin.RegionInfo row(String cluster, FakeNode n) {
        return FakeRegistry.row("default", n, LEADER).toBuilder().setClusterID(cluster).setVBuckets(1).build();
    }

    private void changesHands() {
        registry.remove(row("past", a));
        registry.hasOwner();
        registry.set(row("present", b));
    }

    /** Another cluster may have the name of one that was given up. */
    @Test
    void itsRowsBindNoClientBeforeANodeHasServedIt() throws Exception {
        for (boolean served : new boolean[] {false, true}) {
            registry.hasNoOwner();
            registry.remove(row("present", b));
            registry.set(row("past", a));
            Connections connections = new Connections(null, options);
            try (TopologyWatch watch = new TopologyWatch(connections, List.of(host.address()), "db", null)) {
                Eventually.holds("the former node is known",
                        () -> watch.topology().owners("default").equals(List.of(a.address())));
                if (served) {
                    watch.served(watch.topology());
                }
                changesHands();
                Eventually.holds("the present rows are known", () -> served
                        ? watch.topology().isEmpty() && watch.stranger() != null
                        : watch.topology().owners("default").equals(List.of(b.address())));
            } finally {
                connections.close();
            }
        }
    }

    /** Once its nodes serve requests, a client uses no other cluster. */
    @Test
    void itsNodesBindAClientByServingIt() throws Exception {
        registry.hasNoOwner();
        registry.set(row("past", a));
        try (DKVClient client = new DiscoveryDKVClient(host.address(), "db", options)) {
            client.put("k", "v");
            changesHands();
            Eventually.holds("the own cluster is missed", () -> {
                try {
                    client.put("k", "v");
                    return false;
                } catch (DKVException e) {
                    assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
                    return true;
                }
            });
            assertEquals(0, b.requests.size());
        }
    }
}
