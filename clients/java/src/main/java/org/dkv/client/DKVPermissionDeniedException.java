package org.dkv.client;

import dkv.serverpb.Api;
import io.grpc.Status;

/** A call that its caller is not allowed to make. It had no effect and is not retried. */
public final class DKVPermissionDeniedException extends DKVException {
    private static final long serialVersionUID = 1L;

    DKVPermissionDeniedException(
            Status grpcStatus, Api.Status status, String rpcName, String request, Object[] params, Outcome outcome,
            Throwable cause) {
        super(grpcStatus, status, rpcName, request, params, outcome, cause);
    }
}
