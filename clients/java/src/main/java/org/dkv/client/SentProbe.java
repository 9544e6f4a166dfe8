package org.dkv.client;

import io.grpc.ClientStreamTracer;
import io.grpc.Metadata;

/** Detects whether a request has left this process. */
final class SentProbe extends ClientStreamTracer.Factory {
    private volatile boolean sent;

    @Override
    public ClientStreamTracer newClientStreamTracer(ClientStreamTracer.StreamInfo info, Metadata headers) {
        return new ClientStreamTracer() {
            @Override
            public void outboundHeaders() {
                sent = true; // the headers are written; the request follows them
            }
        };
    }

    boolean sent() {
        return sent;
    }
}
