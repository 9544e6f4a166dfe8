package org.dkv.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.util.Base64;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;

/** The end of a failed attempt: its status, whether the request was applied, and whether a retry may help. */
final class Failure {
    /**
     * The domain of the google.rpc.ErrorInfo with which a server reports the outcome of a request. The reasons below
     * mean that it was not applied. All others leave the outcome open: OUTCOME_UNKNOWN, and TOO_LATE, which means that
     * the server no longer knows the result and which is not retried.
     */
    private static final String DOMAIN = "dkv";
    private static final String NOT_APPLIED = "NOT_APPLIED";
    private static final String NOT_OWNER = "NOT_OWNER";
    /** The node belongs to another cluster than the client; another node may belong to the right one. */
    private static final String OTHER_CLUSTER = "OTHER_CLUSTER";
    /** The metadata of a stream that the server ended because its reader was too slow: where to resume. */
    private static final String STALLED = "STREAM_STALLED";
    private static final String RESUME_KEY = "startKey";
    /** The time after which a request may be made again, if the server does not say. */
    private static final long NEVER = Long.MAX_VALUE;
    private static final Set<String> WITHOUT_EFFECT = Set.of(NOT_APPLIED, NOT_OWNER, OTHER_CLUSTER);

    private final Status status;
    private final boolean mayBeApplied;
    private final boolean otherCluster;
    private final long retryAfterNanos;

    private Failure(Status status, boolean mayBeApplied, boolean otherCluster, long retryAfterNanos) {
        this.status = status;
        this.mayBeApplied = mayBeApplied;
        this.otherCluster = otherCluster;
        this.retryAfterNanos = retryAfterNanos;
    }

    /**
     * Classifies the end of an attempt.
     *
     * @param mutates whether the request was a write
     * @param sent whether it may have left this process
     */
    static Failure of(StatusRuntimeException e, boolean mutates, boolean sent) {
        String reason = reason(e);
        return new Failure(
                explained(asBroken(e.getStatus())), mutates && sent && !WITHOUT_EFFECT.contains(reason),
                reason.equals(OTHER_CLUSTER), retryAfter(e));
    }

    static Failure before(Status status) {
        return new Failure(status, false, false, NEVER);
    }

    /** Returns what the server says about the request's outcome; empty if it says nothing. */
    private static String reason(StatusRuntimeException e) {
        return explanation(e).getReason();
    }

    /**
     * Returns the key from which to resume an iteration, if the server ended it because its reader was too slow;
     * otherwise null.
     */
    static byte[] resumeKey(StatusRuntimeException e) {
        ErrorInfo info = explanation(e);
        if (!info.getReason().equals(STALLED)) {
            return null;
        }
        try {
            byte[] key = Base64.getDecoder().decode(info.getMetadataOrDefault(RESUME_KEY, ""));
            return key.length == 0 ? null : key;
        } catch (IllegalArgumentException broken) {
            return null;
        }
    }

    /** Returns the server's explanation of an error; empty if there is none. */
    private static ErrorInfo explanation(StatusRuntimeException e) {
        ErrorInfo info = detail(e, ErrorInfo.getDefaultInstance());
        return DOMAIN.equals(info.getDomain()) ? info : ErrorInfo.getDefaultInstance();
    }

    /** Returns when the server says that a request may be made again, in nanoseconds; NEVER if it does not. */
    private static long retryAfter(StatusRuntimeException e) {
        RetryInfo info = detail(e, RetryInfo.getDefaultInstance());
        if (!info.hasRetryDelay()) {
            return NEVER;
        }
        long seconds = Math.max(0, Math.min(info.getRetryDelay().getSeconds(), TimeUnit.DAYS.toSeconds(1)));
        return TimeUnit.SECONDS.toNanos(seconds) + Math.max(0, info.getRetryDelay().getNanos());
    }

    /** Returns the first detail of an error of a type; the default if there is none. */
    @SuppressWarnings("unchecked")
    private static <M extends Message> M detail(StatusRuntimeException e, M byDefault) {
        com.google.rpc.Status full = StatusProto.fromThrowable(e);
        if (full == null) {
            return byDefault;
        }
        for (Any detail : full.getDetailsList()) {
            if (detail.is(byDefault.getClass())) {
                try {
                    return (M) detail.unpack(byDefault.getClass());
                } catch (InvalidProtocolBufferException broken) {
                    return byDefault;
                }
            }
        }
        return byDefault;
    }

    /**
     * Returns UNAVAILABLE for a connection that broke just as a request was written, which gRPC reports as UNKNOWN. An
     * UNKNOWN that a server sends has no cause here.
     */
    private static Status asBroken(Status status) {
        if (status.getCode() == Status.Code.UNKNOWN) {
            for (Throwable t = status.getCause(); t != null; t = t.getCause()) {
                if (t instanceof IOException) {
                    return Status.UNAVAILABLE.withDescription(status.getDescription()).withCause(status.getCause());
                }
            }
        }
        return status;
    }

    /** Adds the text of the cause, such as "Connection refused: /127.0.0.1:8080", to a status that does not say it. */
    private static Status explained(Status status) {
        Throwable deepest = status.getCause();
        if (deepest == null) {
            return status;
        }
        while (deepest.getCause() != null) {
            deepest = deepest.getCause();
        }
        String text = deepest.getMessage() != null ? deepest.getMessage() : deepest.getClass().getSimpleName();
        if (status.getDescription() != null && status.getDescription().contains(text)) {
            return status;
        }
        return adding(status, handshake(status) == null ? text : "TLS: " + text);
    }

    /** Adds text to a status. */
    static Status adding(Status status, String more) {
        return status.withDescription(status.getDescription() == null ? more : status.getDescription() + "; " + more);
    }

    private static Throwable handshake(Status status) {
        for (Throwable t = status.getCause(); t != null; t = t.getCause()) {
            if (t instanceof SSLException) {
                return t;
            }
        }
        return null;
    }

    Status status() {
        return status;
    }

    /** Reports whether a write may have had an effect. */
    boolean mayBeApplied() {
        return mayBeApplied;
    }

    /** Reports whether another node, or the same one later, may answer. */
    boolean transientFailure() {
        Status.Code code = status.getCode();
        return code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED;
    }

    /** Reports whether a limit rejected the request, which had no effect, and the server says when to try again. */
    boolean limited() {
        return status.getCode() == Status.Code.RESOURCE_EXHAUSTED && !mayBeApplied && retryAfterNanos != NEVER;
    }

    /** Returns when the request may be made again. */
    long retryAfterNanos() {
        return retryAfterNanos;
    }

    /** Reports whether the node belongs to another cluster than the client. */
    boolean otherCluster() {
        return otherCluster;
    }

    /** Reports whether the node was reached but the TLS handshake failed, which waiting does not help. */
    boolean handshakeFailed() {
        return handshake(status) != null;
    }
}
