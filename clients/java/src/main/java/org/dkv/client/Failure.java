package org.dkv.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.util.Base64;
import java.util.Set;
import javax.net.ssl.SSLException;

/** What one failed attempt tells: its status, what became of the request, and whether another may fare better. */
final class Failure {
    /**
     * Of the google.rpc.ErrorInfo in which a server tells what became of a request. All other reasons leave it open:
     * OUTCOME_UNKNOWN, and TOO_LATE, with which a server says that it has forgotten; that is not worth a repeat, and
     * its status is none that is.
     */
    private static final String DOMAIN = "dkv";
    private static final String NOT_APPLIED = "NOT_APPLIED";
    private static final String NOT_OWNER = "NOT_OWNER";
    /** The node is of another cluster than the client: another node may be of the right one. */
    private static final String OTHER_CLUSTER = "OTHER_CLUSTER";
    /** Of a stream that the server has ended since its reader took nothing, and where to go on with an iteration. */
    private static final String STALLED = "STREAM_STALLED";
    private static final String RESUME_KEY = "startKey";
    private static final Set<String> WITHOUT_EFFECT = Set.of(NOT_APPLIED, NOT_OWNER, OTHER_CLUSTER);

    private final Status status;
    private final boolean mayBeApplied;
    private final boolean otherCluster;

    private Failure(Status status, boolean mayBeApplied, boolean otherCluster) {
        this.status = status;
        this.mayBeApplied = mayBeApplied;
        this.otherCluster = otherCluster;
    }

    /**
     * Judges the end of an attempt.
     *
     * @param mutates whether the request was a write
     * @param sent whether it may have left this process
     */
    static Failure of(StatusRuntimeException e, boolean mutates, boolean sent) {
        String reason = reason(e);
        return new Failure(
                explained(asBroken(e.getStatus())), mutates && sent && !WITHOUT_EFFECT.contains(reason),
                reason.equals(OTHER_CLUSTER));
    }

    static Failure before(Status status) {
        return new Failure(status, false, false);
    }

    /** Returns what a server says that became of the request; empty if it does not. */
    private static String reason(StatusRuntimeException e) {
        return explanation(e).getReason();
    }

    /**
     * Returns the first key that an iteration has not brought, if the server has ended it since nothing was taken for
     * too long and says so; else null.
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

    /** Returns how a server explains an error; empty if it does not. */
    private static ErrorInfo explanation(StatusRuntimeException e) {
        com.google.rpc.Status full = StatusProto.fromThrowable(e);
        if (full == null) {
            return ErrorInfo.getDefaultInstance();
        }
        for (Any detail : full.getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                try {
                    ErrorInfo info = detail.unpack(ErrorInfo.class);
                    return DOMAIN.equals(info.getDomain()) ? info : ErrorInfo.getDefaultInstance();
                } catch (InvalidProtocolBufferException broken) {
                    return ErrorInfo.getDefaultInstance();
                }
            }
        }
        return ErrorInfo.getDefaultInstance();
    }

    /**
     * Returns UNAVAILABLE for a connection that broke, which gRPC calls UNKNOWN if it does so just as a request is written.
     * What a server calls UNKNOWN has no cause here.
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

    /** Adds what the cause knows, such as "Connection refused: /127.0.0.1:8080", to a status that does not say it. */
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

    /** Adds to what a status says. */
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

    /** Tells whether a write may have had an effect. */
    boolean mayBeApplied() {
        return mayBeApplied;
    }

    /** Tells whether another node, or the same one later, may answer. */
    boolean transientFailure() {
        Status.Code code = status.getCode();
        return code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED;
    }

    /** Tells whether the node is of another cluster than the client. */
    boolean otherCluster() {
        return otherCluster;
    }

    /** Tells whether the node was reached but the two could not agree on TLS, which time will not mend. */
    boolean handshakeFailed() {
        return handshake(status) != null;
    }
}
