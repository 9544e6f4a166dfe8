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
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
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
    /** The cluster has removed the node, or the node is a slave; another node serves the request. */
    private static final Set<String> ELSEWHERE = Set.of("NODE_REMOVED", "NODE_SLAVE");
    /** The metadata of a stream that the server ended because its reader was too slow: where to resume. */
    private static final String STALLED = "STREAM_STALLED";
    private static final String RESUME_KEY = "startKey";
    /** The time after which a request may be made again, if the server does not say. */
    private static final long NEVER = Long.MAX_VALUE;
    /** How gRPC's texts begin that are about a reset stream. */
    private static final List<String> RESETS = List.of("RST_STREAM closed stream", "Abrupt GOAWAY closed");
    private static final Set<String> WITHOUT_EFFECT = Set.of(NOT_APPLIED, NOT_OWNER, OTHER_CLUSTER);

    /**
     * The codes by which gRPC or a proxy rejects a request before a node sees it. A node that means one of them
     * explains the outcome.
     */
    private static final Set<Status.Code> NEVER_SERVED = Set.of(
            Status.Code.UNAUTHENTICATED, Status.Code.PERMISSION_DENIED, Status.Code.UNIMPLEMENTED,
            Status.Code.RESOURCE_EXHAUSTED);

    private final Status status;
    private final boolean mayBeApplied;
    /** What the server says; empty if it says nothing. */
    private final List<String> reasons;
    private final long retryAfterNanos;

    private Failure(Status status, boolean mayBeApplied, List<String> reasons, long retryAfterNanos) {
        this.status = status;
        this.mayBeApplied = mayBeApplied;
        this.reasons = reasons;
        this.retryAfterNanos = retryAfterNanos;
    }

    /**
     * Classifies the end of an attempt.
     *
     * @param mutates whether the request was a write
     * @param sent whether it may have left this process
     */
    static Failure of(StatusRuntimeException e, boolean mutates, boolean sent) {
        List<String> reasons =
                explanations(e).stream().map(ErrorInfo::getReason).collect(Collectors.toUnmodifiableList());
        Status status = asBroken(e.getStatus());
        boolean withoutEffect = reasons.isEmpty()
                ? NEVER_SERVED.contains(status.getCode()) : WITHOUT_EFFECT.contains(reasons.get(0));
        return new Failure(explained(status), mutates && sent && !withoutEffect, reasons, retryAfter(e));
    }

    static Failure before(Status status) {
        return new Failure(status, false, List.of(), NEVER);
    }

    /**
     * Returns the key from which to resume an iteration, if the server ended it because its reader was too slow;
     * otherwise null.
     */
    static byte[] resumeKey(StatusRuntimeException e) {
        List<ErrorInfo> infos = explanations(e);
        ErrorInfo info = infos.isEmpty() ? ErrorInfo.getDefaultInstance() : infos.get(0);
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

    /** Returns a server's explanations of an error: first that of the outcome, then what else there is to know. */
    private static List<ErrorInfo> explanations(StatusRuntimeException e) {
        return details(e, ErrorInfo.class).stream()
                .filter(info -> DOMAIN.equals(info.getDomain())).collect(Collectors.toUnmodifiableList());
    }

    /** Returns when the server says that a request may be made again, in nanoseconds; NEVER if it does not. */
    private static long retryAfter(StatusRuntimeException e) {
        List<RetryInfo> infos = details(e, RetryInfo.class);
        if (infos.isEmpty() || !infos.get(0).hasRetryDelay()) {
            return NEVER;
        }
        RetryInfo info = infos.get(0);
        long seconds = Math.max(0, Math.min(info.getRetryDelay().getSeconds(), TimeUnit.DAYS.toSeconds(1)));
        return TimeUnit.SECONDS.toNanos(seconds) + Math.max(0, info.getRetryDelay().getNanos());
    }

    /** Returns the details of an error of one type. Those that cannot be decoded, by whomever sent, explain nothing. */
    private static <M extends Message> List<M> details(StatusRuntimeException e, Class<M> type) {
        List<M> out = new ArrayList<>();
        try {
            com.google.rpc.Status full = StatusProto.fromThrowable(e);
            if (full != null) {
                for (Any detail : full.getDetailsList()) {
                    if (detail.is(type)) {
                        out.add(detail.unpack(type));
                    }
                }
            }
        } catch (InvalidProtocolBufferException | IllegalArgumentException broken) {
            return List.of();
        }
        return out;
    }

    /**
     * Returns UNAVAILABLE for a connection that broke just as a request was written, which gRPC reports as UNKNOWN, and
     * for a stream that the other side has reset, of which gRPC makes codes that nodes use as well. An UNKNOWN that a
     * server sends has no cause here.
     */
    private static Status asBroken(Status status) {
        boolean broken = status.getDescription() != null && RESETS.stream().anyMatch(status.getDescription()::startsWith);
        for (Throwable t = status.getCause(); t != null && status.getCode() == Status.Code.UNKNOWN; t = t.getCause()) {
            broken |= t instanceof IOException;
        }
        return broken
                ? Status.UNAVAILABLE.withDescription(status.getDescription()).withCause(status.getCause()) : status;
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

    /** Returns the same failure with more text. */
    Failure adding(String text) {
        return new Failure(adding(status, text), mayBeApplied, reasons, retryAfterNanos);
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
        return !reasons.isEmpty() && reasons.get(0).equals(OTHER_CLUSTER);
    }

    /**
     * Reports whether another node serves the request, which had no effect here. A node that was started again as one of
     * the registry explains that it serves no such requests; an implementation that does not know them explains nothing.
     */
    boolean elsewhere() {
        return !mayBeApplied
                && (reasons.stream().anyMatch(ELSEWHERE::contains)
                        || status.getCode() == Status.Code.UNIMPLEMENTED && explained());
    }

    /** Reports whether a node has explained the outcome, as those of the earlier system do not. */
    boolean explained() {
        return !reasons.isEmpty();
    }

    /** Reports whether the time ended without a word from the node. */
    boolean unanswered() {
        return status.getCode() == Status.Code.DEADLINE_EXCEEDED && reasons.isEmpty();
    }

    /** Reports whether the node was reached but the TLS handshake failed, which waiting does not help. */
    boolean handshakeFailed() {
        return handshake(status) != null;
    }
}
