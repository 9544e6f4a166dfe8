package org.dkv.client;

import com.google.protobuf.MessageLite;
import dkv.serverpb.Api;
import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/** Makes calls, and repeats them if that is safe, until they succeed or their time limit ends. */
final class Caller {
    /** The least remaining time in which another attempt is worthwhile. */
    private static final long LEAST_ATTEMPT_NANOS = TimeUnit.MILLISECONDS.toNanos(1);
    /**
     * How long a write that may have been applied is repeated, whatever ended the attempts after that: half the time for
     * which servers know its result.
     */
    static final long REPEAT_WITHIN_NANOS = TimeUnit.MINUTES.toNanos(5);
    /** After how long an attempt without an answer shows that the node may hang. */
    private static final long SILENCE_NANOS = TimeUnit.SECONDS.toNanos(1);

    /** In which time a client learns from the registry which nodes are masters by now. */
    private static final long LEARNED_NANOS = TimeUnit.SECONDS.toNanos(2);

    private final Connections connections;
    private final CallMetrics metrics;
    private final long repeatWithin;
    private final LongSupplier wallMillis;

    Caller(Connections connections, CallMetrics metrics, long repeatWithinNanos) {
        this(connections, metrics, repeatWithinNanos, System::currentTimeMillis);
    }

    Caller(Connections connections, CallMetrics metrics, long repeatWithinNanos, LongSupplier wallMillis) {
        this.connections = connections;
        this.metrics = metrics;
        this.repeatWithin = repeatWithinNanos;
        this.wallMillis = wallMillis;
    }

    /** One attempt of a call. */
    interface Attempt<T> {
        /** @param repeat whether an earlier attempt may have been applied */
        T on(Connection connection, CallOptions options, boolean repeat);
    }

    /**
     * Makes a call that has a single response.
     *
     * @param request the request of each attempt
     * @param repeated the request to send after an attempt that may have been applied; null to send none
     * @throws DKVException if it fails
     */
    <Q extends MessageLite, R> R call(
            Rpc<Q, R> rpc, Supplier<Q> request, Supplier<Q> repeated, Route route, long timeoutNanos) {
        R response = retry(rpc, request, repeated != null, route, timeoutNanos,
                (c, options, repeat) -> ClientCalls.blockingUnaryCall(
                        c.calls(), rpc.method(), options, (repeat ? repeated : request).get()));
        check(rpc, request, rpc.status(response));
        return response;
    }

    /** Throws if the response itself contains an error. */
    private static <Q extends MessageLite, R> void check(Rpc<Q, R> rpc, Supplier<Q> request, Api.Status status) {
        if (status.getCode() != 0) {
            throw new DKVException(
                    Status.UNKNOWN.withDescription(status.getMessage()), status, rpc.name(), rpc.describe(request.get()),
                    rpc.params(request.get()),
                    rpc.mutates() ? DKVException.Outcome.UNKNOWN : DKVException.Outcome.NOT_APPLIED, null);
        }
    }

    /** Attempts a call until it succeeds, fails for good or its time limit ends. */
    <Q extends MessageLite, T> T retry(
            Rpc<Q, ?> rpc, Supplier<Q> request, boolean repeatable, Route route, long timeoutNanos, Attempt<T> attempt) {
        return new Attempts<>(rpc, request, repeatable, route, timeoutNanos).run(attempt);
    }

    /** gRPC fails each attempt after the deadline of the context in which it is made, that of a request for example. */
    private static long withinContext(long nanos) {
        Deadline deadline = Context.current().getDeadline();
        return deadline == null ? nanos : Math.min(nanos, deadline.timeRemaining(TimeUnit.NANOSECONDS));
    }

    /** One call with its attempts. */
    private final class Attempts<Q extends MessageLite> {
        private final Rpc<Q, ?> rpc;
        private final Supplier<Q> request;
        private final boolean repeatable;
        private final Route route;
        private final long start = System.nanoTime();
        private final long wallStart = wallMillis.getAsLong();
        private final long timeout;
        private Backoff backoff;
        private int attempts;
        /** How many nodes in a row have left the request to others or belong to another cluster, and since when. */
        private int passed;
        private long passedSince;
        /** How many attempts had no answer in their time, and how many TLS handshakes in a row have failed. */
        private int unanswered;
        private int handshakes;
        private boolean mayBeApplied;
        private Failure last;
        private String lastAddress;
        private StatusRuntimeException cause;

        Attempts(Rpc<Q, ?> rpc, Supplier<Q> request, boolean repeatable, Route route, long timeoutNanos) {
            this.rpc = rpc;
            this.request = request;
            this.repeatable = repeatable;
            this.route = route;
            this.timeout = withinContext(timeoutNanos);
        }

        private long remaining() {
            return timeout - (System.nanoTime() - start);
        }

        <T> T run(Attempt<T> attempt) {
            connections.checkOpen();
            try {
                return untilDone(attempt);
            } catch (RuntimeException e) {
                throw mayBeApplied ? unknownOutcome(e) : e;
            }
        }

        /**
         * Returns the error of a call that ended between two attempts, for example because no node is left. The code
         * that ended it does not know that an attempt may have been applied.
         */
        private RuntimeException unknownOutcome(RuntimeException e) {
            if (!(e instanceof DKVException)) {
                Status status = Status.FAILED_PRECONDITION.withDescription(e.getMessage());
                DKVException unknown = finalError(Failure.before(status), lastAddress);
                unknown.addSuppressed(e); // the cause is the last attempt's failure
                return unknown;
            }
            DKVException known = (DKVException) e;
            return known.getOutcome() == DKVException.Outcome.UNKNOWN
                    ? e : finalError(Failure.before(known.getGrpcStatus()), lastAddress);
        }

        private <T> T untilDone(Attempt<T> attempt) {
            while (true) {
                String address = route.next();
                Failure failure;
                if (address == null) {
                    failure = Failure.before(
                            Status.UNAVAILABLE.withDescription("no node is known that serves the request"));
                } else {
                    SentProbe probe = new SentProbe();
                    Connection connection = connections.get(address);
                    long began = System.nanoTime();
                    try {
                        if (mayBeApplied && !connection.knowsIds(timeOfAttempt())) {
                            throw finalError(
                                    last.adding("not repeated: node " + address + " knows no ids of writes"), lastAddress);
                        }
                        T response = attempt.on(connection, options(probe), mayBeApplied);
                        connection.answered();
                        route.served();
                        metrics.ended(rpc.name(), Status.Code.OK, System.nanoTime() - start);
                        return response;
                    } catch (StatusRuntimeException e) {
                        cause = e;
                        failure = Failure.of(e, rpc.mutates(), probe.sent());
                        if (failure.unanswered()) {
                            unanswered++;
                            if (System.nanoTime() - began >= SILENCE_NANOS) {
                                connection.unanswered();
                            }
                        }
                        if (!probe.sent() && last != null && last.transientFailure()
                                && e.getStatus().getCode() == Status.Code.DEADLINE_EXCEEDED) {
                            failure = last; // says why there is no connection
                        }
                    }
                }
                attempts++;
                last = failure;
                lastAddress = address;
                mayBeApplied |= failure.mayBeApplied();
                if (!prepareRetry(failure, address) || mayBeApplied && toRepeat() <= 0) {
                    throw finalError(failure, address);
                }
                metrics.retried(rpc.name());
            }
        }

        private CallOptions options(SentProbe probe) {
            return CallOptions.DEFAULT.withDeadlineAfter(timeOfAttempt(), TimeUnit.NANOSECONDS)
                    .withStreamTracerFactory(probe);
        }

        /**
         * Returns how long an attempt may take. A part of the time is left for the next node, since this one may hang,
         * unless as many did as there are; a repeat must not arrive when servers have forgotten the result.
         */
        private long timeOfAttempt() {
            long time = mayBeApplied ? Math.min(remaining(), toRepeat() + repeatWithin) : remaining();
            return repeatable && unanswered + 1 < route.size() ? time / 4 * 3 : time;
        }

        /**
         * Returns for how long a write that may have been applied may still be repeated. While the machine is suspended
         * only the wall clock goes on.
         */
        private long toRepeat() {
            long asleep = TimeUnit.MILLISECONDS.toNanos(wallMillis.getAsLong() - wallStart);
            return repeatWithin - Math.max(System.nanoTime() - start, asleep);
        }

        /** Reports whether to make another attempt, after the pause that it needs. */
        private boolean prepareRetry(Failure failure, String address) {
            if (connections.isClosed() || Context.current().isCancelled()) {
                return false;
            }
            if (failure.limited()) {
                // Any node would answer the same: a limit is the caller's own, or the cluster's.
                long left = mayBeApplied ? Math.min(remaining(), toRepeat()) : remaining();
                return failure.retryAfterNanos() < left && pause(failure.retryAfterNanos())
                        && remaining() > LEAST_ATTEMPT_NANOS;
            }
            boolean passes = failure.elsewhere() || failure.otherCluster();
            passed = passes ? passed + 1 : 0;
            if (passed == 1) {
                passedSince = System.nanoTime();
            }
            if (!failure.transientFailure() && !passes) {
                return false;
            }
            if (address != null) {
                route.failed(address);
            }
            boolean learns = failure.elsewhere() && route.learns() && System.nanoTime() - passedSince < LEARNED_NANOS;
            if (passed >= Math.max(1, route.size()) && !learns) {
                return false; // no node is the other one, or belongs to the client's cluster
            }
            if (mayBeApplied && (!repeatable || toRepeat() <= 0)) {
                return false;
            }
            handshakes = failure.handshakeFailed() ? handshakes + 1 : 0;
            if (handshakes >= Math.max(1, route.size())) {
                return false;
            }
            return (attempts < route.size() || pause()) && remaining() > LEAST_ATTEMPT_NANOS;
        }

        private boolean pause() {
            return pause(0);
        }

        /** Pauses, at least as long as a server asked for, unless the client is closed. */
        private boolean pause(long least) {
            if (backoff == null) {
                backoff = new Backoff();
            }
            try {
                connections.pause(Math.min(least + backoff.next(), Math.max(0, remaining())));
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return false;
            }
            String next = route.next();
            if (next != null && !connections.isClosed()) {
                connections.get(next).connectNow();
            }
            return true;
        }

        private DKVException finalError(Failure failure, String address) {
            long elapsed = System.nanoTime() - start;
            Status status = failure.status();
            if (connections.isClosed()) {
                status = Status.CANCELLED.withDescription("the client was closed during the call").withCause(cause);
            } else if (attempts > 1) {
                status = Failure.adding(status,
                        "gave up after " + attempts + " attempts in " + TimeUnit.NANOSECONDS.toMillis(elapsed)
                                + " ms, the last one at " + address);
            } else if (address != null && failure.transientFailure()) {
                status = Failure.adding(status, "node " + address);
            }
            metrics.ended(rpc.name(), status.getCode(), elapsed);
            return DKVException.from(
                    status, DKVException.mirror(status), rpc.name(), rpc.describe(request.get()), rpc.params(request.get()),
                    mayBeApplied ? DKVException.Outcome.UNKNOWN : DKVException.Outcome.NOT_APPLIED, cause);
        }
    }
}
