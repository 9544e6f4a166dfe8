package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Admin;
import dkv.serverpb.DKVDiscoveryGrpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.ServerCredentials;
import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class SecurityTest {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    @TempDir
    private static Path folder;
    private static Certificates server;
    private static Certificates stranger;

    @BeforeAll
    static void makeCertificates() throws Exception {
        server = new Certificates(folder, "server");
        stranger = new Certificates(folder, "stranger");
    }

    private static ServerCredentials tls(File clientAuthority) throws IOException {
        TlsServerCredentials.Builder b = TlsServerCredentials.newBuilder()
                .keyManager(server.certificate.toFile(), server.key.toFile());
        if (clientAuthority != null) {
            b.trustManager(clientAuthority).clientAuth(TlsServerCredentials.ClientAuth.REQUIRE);
        }
        return b.build();
    }

    private static ConnectionOptions.Builder trusting(Certificates c) {
        return ConnectionOptions.builder().trustCertificates(c.certificate).requestTimeout(20_000);
    }

    private static void works(FakeNode node, ConnectionOptions.Builder options) {
        try (DKVClient c = new SimpleDKVClient(node.address(), options.build())) {
            c.put("k", "v");
            assertEquals("v", c.get(LINEARIZABLE, "k"));
        }
    }

    private static DKVException fails(FakeNode node, ConnectionOptions.Builder options) {
        try (DKVClient c = new SimpleDKVClient(node.address(), options.build())) {
            DKVException e = assertThrows(DKVException.class, () -> c.put("k", "v"));
            assertEquals(Status.Code.UNAVAILABLE, e.getGrpcStatus().getCode(), e.getMessage());
            return e;
        }
    }

    @Test
    void speaksTls() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(null))) {
            works(node, trusting(server));
        }
    }

    @Test
    void showsItsCertificate() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(stranger.certificate.toFile()))) {
            works(node, trusting(server).clientCertificate(stranger.certificate, stranger.key));
            fails(node, trusting(server).requestTimeout(500));
        }
    }

    @Test
    void strangersAreRefusedAtOnce() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(null))) {
            long start = System.nanoTime();
            String text = fails(node, trusting(stranger)).getMessage();
            assertTrue(text.contains("TLS: "), text);
            assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(15), "did not wait for the deadline");
        }
    }

    @Test
    void plainServersAreRecognised() {
        try (FakeNode node = new FakeNode(0, InsecureServerCredentials.create())) {
            String text = fails(node, trusting(server)).getMessage();
            assertTrue(text.contains("TLS: "), text);
        }
    }

    @Test
    void plainClientsOfTlsServersFail() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(null))) {
            fails(node, ConnectionOptions.builder().requestTimeout(500));
        }
    }

    @Test
    void sendsItsToken() {
        try (FakeNode node = new FakeNode()) {
            works(node, ConnectionOptions.builder().token("s3cret"));
            assertEquals("Bearer s3cret", node.headers.get(0).get(AUTHORIZATION));
            node.headers.clear();
            works(node, ConnectionOptions.builder());
            assertNull(node.headers.get(0).get(AUTHORIZATION));
        }
    }

    @Test
    void sendsTheTokenOfAFile() throws IOException, InterruptedException {
        Path file = Files.writeString(folder.resolve("token"), "first\n");
        try (FakeNode node = new FakeNode(0, tls(null));
                DKVClient c = new SimpleDKVClient(node.address(), trusting(server).tokenFile(file).build())) {
            c.put("k", "v");
            assertEquals("Bearer first", node.headers.get(0).get(AUTHORIZATION));
            Files.writeString(file, "second\n");
            Eventually.holds("the new token is sent", () -> {
                c.put("k", "v");
                return "Bearer second".equals(node.headers.get(node.headers.size() - 1).get(AUTHORIZATION));
            });
        }
    }

    /** What makes a file usable may leave its time and size, as a change of its mode does. */
    @Test
    void readsTokenFilesAgainUntilTheyCanBeUsed() throws IOException, InterruptedException {
        Path file = Files.writeString(folder.resolve("token-to-be"), "first");
        TokenFile token = new TokenFile(file);
        FileTime time = FileTime.from(Instant.parse("2020-01-01T00:00:00Z"));
        Files.setLastModifiedTime(Files.writeString(file, "a b"), time);
        long wrong = System.nanoTime();
        Eventually.holds("the file is looked at", () -> {
            assertEquals("first", token.get());
            return System.nanoTime() - wrong > TimeUnit.MILLISECONDS.toNanos(2500);
        });
        Files.setLastModifiedTime(Files.writeString(file, "abc"), time);
        Eventually.holds("the token is used", () -> "abc".equals(token.get()));
    }

    /** A node gets a certificate of another authority, and the client the new file of authorities. */
    @Test
    void trustsNewAuthoritiesWithoutANewClient() throws IOException, InterruptedException {
        Path authorities = Files.copy(server.certificate, folder.resolve("authorities"));
        FakeNode node = new FakeNode(0, tls(null));
        ConnectionOptions options =
                ConnectionOptions.builder().trustCertificates(authorities).requestTimeout(20_000).build();
        try (DKVClient c = new SimpleDKVClient(node.address(), options)) {
            c.put("k", "v");
            int port = node.node().getPort();
            node.close();
            node = new FakeNode(
                    port, TlsServerCredentials.create(stranger.certificate.toFile(), stranger.key.toFile()));
            assertThrows(DKVException.class, () -> c.put("k", "v"));
            Files.writeString(authorities, "half of a file");
            assertThrows(DKVException.class, () -> c.put("k", "v"));
            Files.copy(stranger.certificate, authorities, StandardCopyOption.REPLACE_EXISTING);
            works(c);
        } finally {
            node.close();
        }
    }

    @Test
    void showsItsNewCertificateWithoutANewClient() throws IOException, InterruptedException {
        Path chain = Files.copy(server.certificate, folder.resolve("chain"));
        Path key = Files.copy(server.key, folder.resolve("key"));
        try (FakeNode node = new FakeNode(0, tls(stranger.certificate.toFile()));
                DKVClient c = new SimpleDKVClient(
                        node.address(), trusting(server).clientCertificate(chain, key).requestTimeout(3000).build())) {
            assertThrows(DKVException.class, () -> c.put("k", "v"));
            Files.copy(stranger.certificate, chain, StandardCopyOption.REPLACE_EXISTING);
            Files.copy(stranger.key, key, StandardCopyOption.REPLACE_EXISTING);
            works(c);
        }
    }

    /** Waits until a client that has failed works. */
    private static void works(DKVClient c) throws InterruptedException {
        Eventually.holds("the client works", () -> {
            try {
                c.put("k", "v");
                return true;
            } catch (DKVException e) {
                return false;
            }
        });
    }

    @Test
    void refusesKeysOfOtherCertificates() {
        ConnectionOptions options = trusting(server).clientCertificate(server.certificate, stranger.key).build();
        String text = assertThrows(IllegalArgumentException.class, () -> new SimpleDKVClient("127.0.0.1:1", options))
                .getMessage();
        assertTrue(text.contains("is not that of the client's certificate"), text);
    }

    @Test
    void trustsKeyStores() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(null))) {
            ConnectionOptions.Builder options = ConnectionOptions.builder().requestTimeout(20_000);
            works(node, options.trustStore(server.store, "changeit".toCharArray()));
            fails(node, options.trustStore(stranger.store, "changeit".toCharArray()));
        }
    }

    @Test
    void checksTheNameThatItIsTold() throws IOException {
        try (FakeNode node = new FakeNode(0, tls(null))) {
            works(node, trusting(server).authority("localhost"));
            fails(node, trusting(server).authority("another.example"));
        }
    }

    /** A registry that rejects the client is not waited for. */
    @Test
    void rejectionsOfTheRegistryAreSaid() {
        DKVDiscoveryGrpc.DKVDiscoveryImplBase registry = new DKVDiscoveryGrpc.DKVDiscoveryImplBase() {
            @Override
            public void watchClusterInfo(
                    Admin.GetClusterInfoRequest q, StreamObserver<Admin.ClusterInfoChange> out) {
                out.onError(Status.UNAUTHENTICATED.withDescription("no token").asRuntimeException());
            }
        };
        try (FakeNode node = new FakeNode(0, InsecureServerCredentials.create(), registry);
                DKVClient c = new DiscoveryDKVClient(
                        node.address(), "db", ConnectionOptions.builder().requestTimeout(30_000).build())) {
            String text = assertThrows(DKVUnauthenticatedException.class, () -> c.put("k", "v")).getMessage();
            assertTrue(text.contains("no token") && text.contains(node.address()), text);
        }
    }

    @Test
    void refusesFilesThatAreNotThere() {
        Path nowhere = folder.resolve("nowhere");
        assertThrows(IllegalArgumentException.class, () -> ConnectionOptions.builder().trustCertificates(nowhere));
        assertThrows(IllegalArgumentException.class,
                () -> ConnectionOptions.builder().clientCertificate(server.certificate, null));
    }
}
