package org.dkv.client;

import dkv.serverpb.Api;
import io.grpc.Status;

/**
 * A call that failed. Its message names the request, the failure and the outcome of a write. Calls that are rejected
 * because of who makes them throw a {@link DKVUnauthenticatedException} or a {@link DKVPermissionDeniedException}.
 */
public class DKVException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** Whether a write that failed was applied. */
    public enum Outcome {
        /** It had no effect and never will: a retry is safe. Reads always have this outcome. */
        NOT_APPLIED,
        /**
         * It may have been applied, or may still be. The client has repeated it as long as that was safe, and servers
         * may no longer know its result. Read the key before writing again, which is a new write.
         */
        UNKNOWN
    }

    private final transient Status grpcStatus;
    private final transient Api.Status status;
    private final transient Object[] params;
    private final String rpcName;
    private final String request;
    private final Outcome outcome;
    private byte[] resumeKey;
    /** Not of Throwable, which serializes it: gRPC's exceptions cannot be. Their texts are in the message. */
    private final transient Throwable cause;

    DKVException(
            Status grpcStatus, Api.Status status, String rpcName, String request, Object[] params, Outcome outcome,
            Throwable cause) {
        super(message(grpcStatus, request, outcome), null);
        this.cause = cause;
        this.grpcStatus = grpcStatus;
        this.status = status;
        this.rpcName = rpcName;
        this.request = request;
        this.params = params;
        this.outcome = outcome;
    }

    /** Makes an exception for a failure that the client itself found, so that the request had no effect. */
    static DKVException of(Status status, String rpcName, String request, Object... params) {
        return from(status, mirror(status), rpcName, request, params, Outcome.NOT_APPLIED, null);
    }

    /** Makes the exception of the kind that a status has. */
    static DKVException from(
            Status grpcStatus, Api.Status status, String rpcName, String request, Object[] params, Outcome outcome,
            Throwable cause) {
        switch (grpcStatus.getCode()) {
            case UNAUTHENTICATED:
                return new DKVUnauthenticatedException(grpcStatus, status, rpcName, request, params, outcome, cause);
            case PERMISSION_DENIED:
                return new DKVPermissionDeniedException(grpcStatus, status, rpcName, request, params, outcome, cause);
            default:
                return new DKVException(grpcStatus, status, rpcName, request, params, outcome, cause);
        }
    }

    /** Converts a gRPC status to the form of the responses' status field. */
    static Api.Status mirror(Status status) {
        String text = status.getDescription() == null ? status.getCode().name() : status.getDescription();
        return Api.Status.newBuilder().setCode(-1).setMessage(text).build();
    }

    private static String message(Status status, String request, Outcome outcome) {
        StringBuilder text = new StringBuilder(request).append(": ").append(status.getCode());
        if (status.getDescription() != null) {
            text.append(": ").append(status.getDescription());
        }
        return text.append(outcome == Outcome.UNKNOWN ? " (outcome unknown: it may have been applied)" : "").toString();
    }

    /** Returns the failure of the last attempt; null if there was none, or after deserialization. */
    @Override
    public synchronized Throwable getCause() {
        return cause;
    }

    /** Returns the status of the call; null after deserialization, as what else is gRPC's. */
    public Status getGrpcStatus() {
        return grpcStatus;
    }

    /** Returns the status as responses carry it: -1 and the message. */
    public Api.Status getStatus() {
        return status;
    }

    /** Returns the name of the remote procedure, such as {@code Put}. */
    public String getRpcName() {
        return rpcName;
    }

    /** Returns a description of the request, without its values. */
    public String getRequest() {
        return request;
    }

    /** Returns the arguments of the remote procedure: its consistency if it has one, and its keys. */
    public Object[] getParams() {
        return params == null ? new Object[0] : params.clone();
    }

    /**
     * Returns where to resume an iteration that the server ended because its reader read nothing for too long
     * (stream-stall-timeout); otherwise null. Every key before this one was returned, and perhaps some from it on,
     * those of the last message. An iteration that starts here reads the rest, from the state at that time.
     */
    public byte[] getResumeKey() {
        return resumeKey == null ? null : resumeKey.clone();
    }

    DKVException resumableAt(byte[] key) {
        resumeKey = key;
        return this;
    }

    /** Returns whether the request was applied. */
    public Outcome getOutcome() {
        return outcome;
    }
}
