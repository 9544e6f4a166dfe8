package org.dkv.client;

import com.google.protobuf.Empty;
import dkv.serverpb.DKVNodeGrpc;
import io.grpc.CallCredentials;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.stub.ClientCalls;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** A connection to one address, which is opened again whenever it breaks. */
final class Connection {
    /**
     * How long a connection in use may be silent before it is probed; gRPC allows no less. How long the probe may take,
     * and on Linux all that is sent until the other host confirms it: less than calls may take by default, so that they
     * can go to another node when a host is lost.
     */
    private static final long KEEPALIVE_SECONDS = 10;
    static final long KEEPALIVE_TIMEOUT_SECONDS = 3;
    /** The least time after which a connection that does not come about is given up; it includes TLS and HTTP/2. */
    private static final long LEAST_STUCK_NANOS = TimeUnit.SECONDS.toNanos(3);
    /** How long a node is avoided that has left a call without an answer. */
    private static final long AVOIDED_NANOS = TimeUnit.SECONDS.toNanos(10);
    /** What a stream may receive before it is read, in bytes; gRPC raises it on slow networks. */
    private static final int INITIAL_WINDOW = 64 << 10;
    /** The largest message in bytes; more than any server sends. */
    private static final int MAX_MESSAGE = 256 << 20;
    /** The largest headers in bytes: an error may contain a key, which is encoded twice. */
    private static final int MAX_METADATA = 1 << 20;

    private final ManagedChannel channel;
    private final Channel calls;
    private final TurningNames names;
    private final long stuckAfter;
    /** Since when it has been connecting, in nanoseconds; 0 while it is not. */
    private final AtomicLong connectingSince = new AtomicLong();
    /** Whether the node is known to recognise a repeated write by its id. */
    private volatile boolean knowsIds;
    /** Whether a call was left without an answer, and when the last one was. */
    private volatile boolean silent;
    private volatile long silentAt;

    /** Takes over a channel. */
    Connection(ManagedChannel channel, CallCredentials caller) {
        this(channel, caller, null, 0);
    }

    private Connection(ManagedChannel channel, CallCredentials caller, TurningNames names, long stuckAfter) {
        this.channel = channel;
        this.calls = authorized(channel, caller);
        this.names = names;
        this.stuckAfter = stuckAfter;
        if (names != null) {
            follow(ConnectivityState.IDLE);
        }
    }

    /** Prepares a connection, which the first call opens. */
    static Connection to(
            String address, String authority, ConnectionOptions options, ChannelCredentials tls,
            CallCredentials caller) {
        // A call that has waited for all of the default time limit leaves the next one another address.
        long stuckAfter = Math.max(
                TimeUnit.MILLISECONDS.toNanos(options.getConnectTimeout()) / 10 * 9, LEAST_STUCK_NANOS);
        return to(address, authority, options, tls, caller, TurningNames.serves(address) ? new TurningNames() : null,
                stuckAfter);
    }

    /**
     * Prepares a connection, which the first call opens.
     *
     * @param names looks the address up; null leaves that to gRPC
     * @param stuckAfter after how many nanoseconds of connecting the next call tries the next address of the name
     */
    static Connection to(
            String address, String authority, ConnectionOptions options, ChannelCredentials tls,
            CallCredentials caller, TurningNames names, long stuckAfter) {
        NettyChannelBuilder builder = NettyChannelBuilder.forTarget(address, tls)
                .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS,
                        (int) Math.min(options.getConnectTimeout(), Integer.MAX_VALUE))
                .keepAliveTime(KEEPALIVE_SECONDS, TimeUnit.SECONDS)
                .keepAliveTimeout(KEEPALIVE_TIMEOUT_SECONDS, TimeUnit.SECONDS)
                .maxInboundMessageSize(MAX_MESSAGE)
                .maxInboundMetadataSize(MAX_METADATA)
                .initialFlowControlWindow(INITIAL_WINDOW)
                .disableServiceConfigLookUp() // no DNS record sets deadlines or retries
                .disableRetry(); // class Caller decides what may be repeated
        if (authority != null) {
            builder.overrideAuthority(authority);
        }
        if (names != null) {
            builder.nameResolverFactory(names);
        }
        return new Connection(builder.build(), caller, names, stuckAfter);
    }

    /** Keeps track of how long it has been connecting. */
    private void follow(ConnectivityState state) {
        connectingSince.set(state == ConnectivityState.CONNECTING ? System.nanoTime() | 1 : 0);
        if (state != ConnectivityState.SHUTDOWN) {
            channel.notifyWhenStateChanged(state, () -> follow(channel.getState(false)));
        }
    }

    private static Channel authorized(ManagedChannel channel, CallCredentials caller) {
        if (caller == null) {
            return channel;
        }
        return ClientInterceptors.intercept(channel, new ClientInterceptor() {
            @Override
            public <Q, R> ClientCall<Q, R> interceptCall(
                    MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
                return next.newCall(method, options.withCallCredentials(caller));
            }
        });
    }

    /** Returns the channel to call through. One on which nothing has been said for long is opened again. */
    Channel calls() {
        long since = connectingSince.get();
        if (since != 0 && System.nanoTime() - since > stuckAfter
                && channel.getState(false) == ConnectivityState.CONNECTING && connectingSince.compareAndSet(since, 0)) {
            names.turn();
            channel.enterIdle();
        }
        return calls;
    }

    /** Reports whether the last attempt to connect failed, or the node has left a call without an answer of late. */
    boolean failing() {
        return unconnected() || silent && System.nanoTime() - silentAt < AVOIDED_NANOS;
    }

    private boolean unconnected() {
        return channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE;
    }

    /**
     * Reports whether the node recognises a repeated write by its id, which those of the earlier system do not: they
     * have no service for a node's status either. It is asked once.
     *
     * @throws StatusRuntimeException if it does not answer
     */
    boolean knowsIds(long timeoutNanos) {
        if (!knowsIds) {
            CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(timeoutNanos, TimeUnit.NANOSECONDS);
            try {
                ClientCalls.blockingUnaryCall(
                        calls, DKVNodeGrpc.getGetNodeStatusMethod(), options, Empty.getDefaultInstance());
                knowsIds = true;
            } catch (StatusRuntimeException e) {
                Failure failure = Failure.of(e, false, true);
                if (failure.transientFailure()) {
                    throw e;
                }
                knowsIds = failure.explained(); // it may be that this caller may not ask
            }
        }
        return knowsIds;
    }

    /** Records that a call had no answer for long: the node may hang, which does not break the connection. */
    void unanswered() {
        silentAt = System.nanoTime();
        silent = true;
    }

    /** Records that a call had an answer. */
    void answered() {
        if (silent) {
            silent = false;
        }
    }

    /** Connects at once if it waits after a failure. */
    void connectNow() {
        if (unconnected()) {
            channel.resetConnectBackoff();
        }
    }

    /** Rejects new calls, and closes when those in progress have ended. */
    void retire() {
        channel.shutdown();
    }

    boolean isRetired() {
        return channel.isShutdown();
    }

    /** Reports whether it is closed and has no calls any more. */
    boolean isClosed() {
        return channel.isTerminated();
    }

    /** Cancels the calls in progress and closes. */
    void abort() {
        channel.shutdownNow();
    }

    /** Waits until everything is released, which takes moments after abort. */
    void awaitClosed(long timeout, TimeUnit unit) throws InterruptedException {
        channel.awaitTermination(timeout, unit);
    }
}
