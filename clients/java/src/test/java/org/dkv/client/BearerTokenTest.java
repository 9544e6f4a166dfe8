package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BearerTokenTest {
    @TempDir
    private Path folder;

    /** What becomes of a call. */
    private static final class Applied extends CallCredentials.MetadataApplier {
        private Metadata headers;
        private Status failure;

        @Override
        public void apply(Metadata with) {
            headers = with;
        }

        @Override
        public void fail(Status status) {
            failure = status;
        }
    }

    /** A call over a connection. */
    private static final class Over extends CallCredentials.RequestInfo {
        private final SecurityLevel level;
        private final Attributes connection;

        Over(SecurityLevel level, SocketAddress to) {
            this.level = level;
            this.connection = Attributes.newBuilder().set(Grpc.TRANSPORT_ATTR_REMOTE_ADDR, to).build();
        }

        @Override
        public MethodDescriptor<?, ?> getMethodDescriptor() {
            return Rpc.ITERATE.method();
        }

        @Override
        public SecurityLevel getSecurityLevel() {
            return level;
        }

        @Override
        public String getAuthority() {
            return "node";
        }

        @Override
        public Attributes getTransportAttrs() {
            return connection;
        }
    }

    private static Applied send(Supplier<String> token, SecurityLevel level, String host) {
        Applied out = new Applied();
        new BearerToken(token)
                .applyRequestMetadata(new Over(level, new InetSocketAddress(host, 8080)), Runnable::run, out);
        return out;
    }

    @Test
    void theTokenNeverCrossesANetworkInTheClear() {
        Applied clear = send(() -> "s3cret", SecurityLevel.NONE, "192.0.2.1");
        assertNull(clear.headers);
        assertEquals(Status.Code.UNAUTHENTICATED, clear.failure.getCode());
        assertTrue(clear.failure.getDescription().contains("use tls()"), clear.failure.getDescription());
        assertFalse(clear.failure.toString().contains("s3cret"));
        assertNotNull(send(() -> "s3cret", SecurityLevel.PRIVACY_AND_INTEGRITY, "192.0.2.1").headers);
        assertNotNull(send(() -> "s3cret", SecurityLevel.NONE, "127.0.0.1").headers);
        assertNotNull(send(() -> "s3cret", SecurityLevel.NONE, "::1").headers);
    }

    @Test
    void sourcesThatFailAreNamed() {
        Applied none = send(() -> null, SecurityLevel.NONE, "127.0.0.1");
        assertEquals(Status.Code.UNAUTHENTICATED, none.failure.getCode());
        Applied lines = send(() -> "a\nb", SecurityLevel.NONE, "127.0.0.1");
        assertEquals(Status.Code.UNAUTHENTICATED, lines.failure.getCode());
        Applied broken = send(() -> {
            throw new IllegalStateException("no vault");
        }, SecurityLevel.NONE, "127.0.0.1");
        assertEquals("no vault", broken.failure.getCause().getMessage());
        Applied unlinked = send(() -> {
            throw new NoClassDefFoundError("vault/Client");
        }, SecurityLevel.NONE, "127.0.0.1");
        assertEquals("vault/Client", unlinked.failure.getCause().getMessage());
    }

    @Test
    void tokenFilesAreReadAgain() throws IOException, InterruptedException {
        Path file = Files.writeString(folder.resolve("token"), "first\n");
        TokenFile token = new TokenFile(file);
        assertEquals("first", token.get());
        Files.writeString(file, "second\n");
        Eventually.holds("the new token is used", () -> token.get().equals("second"));
        Files.delete(file);
        assertEquals("second", token.get());
        Files.writeString(file, "third");
        Eventually.holds("the third token is used", () -> token.get().equals("third"));
    }

    /** What installs a file may set its time, and tokens are of one length. */
    @Test
    void tokenFilesAreReadAgainThoughTheyLookTheSame() throws IOException, InterruptedException {
        FileTime time = FileTime.fromMillis(0);
        Path file = Files.writeString(folder.resolve("token"), "first");
        Files.setLastModifiedTime(file, time);
        TokenFile token = new TokenFile(file);
        Files.writeString(file, "other");
        Files.setLastModifiedTime(file, time);
        Eventually.holds("the other token is used", () -> token.get().equals("other"));
    }

    @Test
    void filesWithoutATokenAreRejected() throws IOException {
        for (String content : new String[] {"", "\n", "two tokens", "two\nlines"}) {
            Path file = Files.writeString(folder.resolve("token"), content);
            IllegalArgumentException e =
                    assertThrows(IllegalArgumentException.class, () -> ConnectionOptions.builder().tokenFile(file));
            assertFalse(e.getMessage().contains("two"), e.getMessage());
        }
        assertThrows(IllegalArgumentException.class,
                () -> ConnectionOptions.builder().tokenFile(folder.resolve("nowhere")));
    }
}
