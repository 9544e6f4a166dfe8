package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dkv.serverpb.Api;
import io.grpc.EquivalentAddressGroup;
import io.grpc.InsecureChannelCredentials;
import io.grpc.NameResolver;
import io.grpc.Status;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.SocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** One name with several addresses, some of which take connections and say nothing. */
@Timeout(60)
class TurningNamesTest {
    private static final ConnectionOptions OPTIONS = ConnectionOptions.builder().requestTimeout(1000).build();
    private static final byte[] KEY = {1};
    private static final byte[] VALUE = {2};

    /** Finds these addresses for every name. */
    private static NameResolver.Factory names(SocketAddress... addresses) {
        return new NameResolver.Factory() {
            @Override
            public String getDefaultScheme() {
                return "dns";
            }

            @Override
            public NameResolver newNameResolver(URI target, NameResolver.Args args) {
                return new NameResolver() {
                    @Override
                    public String getServiceAuthority() {
                        return "db.test:80";
                    }

                    @Override
                    public void start(Listener2 to) {
                        List<EquivalentAddressGroup> all = new ArrayList<>();
                        for (SocketAddress a : addresses) {
                            all.add(new EquivalentAddressGroup(a));
                        }
                        to.onResult(ResolutionResult.newBuilder().setAddresses(all).build());
                    }

                    @Override
                    public void shutdown() {}
                };
            }
        };
    }

    private static SimpleDKVClient client(long stuckMillis, SocketAddress... addresses) {
        Connections connections = new Connections(OPTIONS, address -> Connection.to(
                address, null, OPTIONS, InsecureChannelCredentials.create(), null, new TurningNames(names(addresses)),
                TimeUnit.MILLISECONDS.toNanos(stuckMillis)));
        return new SimpleDKVClient("db.test:80", OPTIONS, connections);
    }

    /** Takes connections, by the system, and is never read. */
    private static ServerSocket silent() throws Exception {
        return new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
    }

    @Test
    void goesOnFromAnAddressThatSaysNothing() throws Exception {
        try (ServerSocket first = silent(); ServerSocket second = silent(); FakeNode node = new FakeNode()) {
            int colon = node.address().lastIndexOf(':');
            SocketAddress good = new InetSocketAddress(
                    node.address().substring(0, colon), Integer.parseInt(node.address().substring(colon + 1)));
            try (SimpleDKVClient client =
                    client(900, first.getLocalSocketAddress(), second.getLocalSocketAddress(), good)) {
                for (int i = 0; i < 2; i++) { // each takes the time of a call
                    DKVException e = assertThrows(DKVException.class, () -> client.put(KEY, VALUE));
                    assertEquals(Status.Code.DEADLINE_EXCEEDED, e.getGrpcStatus().getCode());
                    assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
                }
                Eventually.holds("the third address is used", () -> { // the first answer of a process may take longer
                    try {
                        return client.get(Api.ReadConsistency.LINEARIZABLE, KEY).length == 0;
                    } catch (DKVException slow) {
                        return false;
                    }
                }, () -> "nothing is answered");
            }
        }
    }

    /** A connection that takes its time is not given up. */
    @Test
    void waitsForAnAddressThatIsSlow() throws Exception {
        try (ServerSocket slow = silent(); FakeNode node = new FakeNode()) {
            int colon = node.address().lastIndexOf(':');
            SocketAddress good = new InetSocketAddress(
                    node.address().substring(0, colon), Integer.parseInt(node.address().substring(colon + 1)));
            try (SimpleDKVClient client = client(30_000, slow.getLocalSocketAddress(), good)) {
                for (int i = 0; i < 2; i++) {
                    assertThrows(DKVException.class, () -> client.put(KEY, VALUE));
                }
                assertEquals(0, node.requests.size());
            }
        }
    }
}
