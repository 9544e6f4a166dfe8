package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.ServerCredentials;
import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import java.io.File;
import java.io.IOException;
import java.nio.file.Path;
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
    void refusesFilesThatAreNotThere() {
        Path nowhere = folder.resolve("nowhere");
        assertThrows(IllegalArgumentException.class, () -> ConnectionOptions.builder().trustCertificates(nowhere));
        assertThrows(IllegalArgumentException.class,
                () -> ConnectionOptions.builder().clientCertificate(server.certificate, null));
    }
}
