package org.dkv.client;

import dkv.serverpb.Api;
import io.grpc.Status;

/** A call that failed. Its message says what was asked, what went wrong and what became of a write. */
public final class DKVException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What became of a write that ended in an error. */
    public enum Outcome {
        /** It had no effect and never will: asking again is safe. Reads are always so. */
        NOT_APPLIED,
        /**
         * It may have landed, or may land yet. The client has repeated it as long as that was safe, and servers may
         * have forgotten what became of it: read what is there before writing again, which is a new write.
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

    DKVException(
            Status grpcStatus, Api.Status status, String rpcName, String request, Object[] params, Outcome outcome,
            Throwable cause) {
        super(message(grpcStatus, request, outcome), cause);
        this.grpcStatus = grpcStatus;
        this.status = status;
        this.rpcName = rpcName;
        this.request = request;
        this.params = params;
        this.outcome = outcome;
    }

    /** Makes an exception of something that the client itself found out about a request without an effect. */
    static DKVException of(Status status, String rpcName, String request, Object... params) {
        return new DKVException(status, mirror(status), rpcName, request, params, Outcome.NOT_APPLIED, null);
    }

    /** Says the same as a gRPC status in the form of the responses' status field. */
    static Api.Status mirror(Status status) {
        String text = status.getDescription() == null ? status.getCode().name() : status.getDescription();
        return Api.Status.newBuilder().setCode(-1).setMessage(text).build();
    }

    private static String message(Status status, String request, Outcome outcome) {
        StringBuilder text = new StringBuilder(request).append(": ").append(status.getCode());
        if (status.getDescription() != null) {
            text.append(": ").append(status.getDescription());
        }
        return text.append(outcome == Outcome.UNKNOWN ? " (whether it was applied is not known)" : "").toString();
    }

    /** Returns the status of the call. */
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

    /** Returns what the remote procedure was called with: its consistency if it has one, and its keys. */
    public Object[] getParams() {
        return params == null ? new Object[0] : params.clone();
    }

    /**
     * Returns where an iteration may go on that the server has ended since nothing was taken for too long
     * (stream-stall-timeout); else null. All keys before it were brought, and perhaps some from it on, those of the last
     * message. Another iteration that begins with it goes on from there, in the state that there is by then.
     */
    public byte[] getResumeKey() {
        return resumeKey == null ? null : resumeKey.clone();
    }

    DKVException resumableAt(byte[] key) {
        resumeKey = key;
        return this;
    }

    /** Returns what became of the request. */
    public Outcome getOutcome() {
        return outcome;
    }
}
