package org.dkv.client;

import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.concurrent.Executor;
import java.util.function.Supplier;

/** Sends a bearer token with each call, but never over a network in the clear. */
final class BearerToken extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final Supplier<String> source;
    private volatile Header last = new Header(null);

    BearerToken(Supplier<String> source) {
        this.source = source;
    }

    /** A token as calls carry it. */
    private static final class Header {
        private final String token;
        private final Metadata headers = new Metadata();

        Header(String token) {
            this.token = token;
            if (token != null) {
                headers.put(AUTHORIZATION, "Bearer " + token);
            }
        }
    }

    /** Reports whether a text can be sent as a token. */
    static boolean valid(String token) {
        return token != null && !token.isEmpty() && token.chars().allMatch(c -> c > ' ' && c < 0x7f);
    }

    @Override
    public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
        if (info.getSecurityLevel() == SecurityLevel.NONE && !local(info.getTransportAttrs())) {
            applier.fail(Status.UNAUTHENTICATED.withDescription(
                    "the connection is in the clear, and the token was not sent: use tls()"));
            return;
        }
        executor.execute(() -> apply(applier)); // the source may wait for a file
    }

    private void apply(MetadataApplier applier) {
        Header header = last;
        try {
            String token = source.get();
            if (!valid(token)) {
                applier.fail(Status.UNAUTHENTICATED.withDescription(
                        "the source of tokens returned none, or one with characters that cannot be sent"));
                return;
            }
            if (!token.equals(header.token)) {
                header = new Header(token);
                last = header;
            }
        } catch (RuntimeException | Error e) { // gRPC would wait for the token until the deadline
            applier.fail(Status.UNAUTHENTICATED.withDescription("the source of tokens failed").withCause(e));
            return;
        }
        applier.apply(header.headers);
    }

    /** Reports whether the other side is this machine. */
    private static boolean local(Attributes connection) {
        SocketAddress to = connection.get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
        if (to instanceof InetSocketAddress) {
            InetSocketAddress at = (InetSocketAddress) to;
            return !at.isUnresolved() && at.getAddress().isLoopbackAddress();
        }
        return to != null; // within this process, or a Unix socket
    }
}
