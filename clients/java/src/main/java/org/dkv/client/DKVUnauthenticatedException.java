package org.dkv.client;

import dkv.serverpb.Api;
import io.grpc.Status;

/**
 * A call whose token or certificate the node does not accept, or that needs one. It had no effect and is not retried.
 */
public final class DKVUnauthenticatedException extends DKVException {
    private static final long serialVersionUID = 1L;

    DKVUnauthenticatedException(
            Status grpcStatus, Api.Status status, String rpcName, String request, Object[] params, Outcome outcome,
            Throwable cause) {
        super(grpcStatus, status, rpcName, request, params, outcome, cause);
    }
}
