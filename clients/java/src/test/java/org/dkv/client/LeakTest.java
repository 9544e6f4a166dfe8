package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dkv.serverpb.Admin;
import dkv.serverpb.Api;
import io.grpc.InsecureServerCredentials;
import java.util.Set;
import java.util.TreeSet;
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
