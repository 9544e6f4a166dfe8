package org.dkv.client;

import dkv.serverpb.Api;

/** What the answer to a write says of it. Immutable. */
public final class WriteAnswer {
    private final long index;
    private final String history;
    private final Api.AckLevel acked;

    private WriteAnswer(long index, String history, Api.AckLevel acked) {
        this.index = index;
        this.history = history;
        this.acked = acked;
    }

    static WriteAnswer of(Object response) {
        if (response instanceof Api.PutResponse) {
            Api.PutResponse r = (Api.PutResponse) response;
            return new WriteAnswer(r.getIndex(), r.getHistory(), r.getAcked());
        }
        if (response instanceof Api.DeleteResponse) {
            Api.DeleteResponse r = (Api.DeleteResponse) response;
            return new WriteAnswer(r.getIndex(), r.getHistory(), r.getAcked());
        }
        Api.CompareAndSetResponse r = (Api.CompareAndSetResponse) response;
        return new WriteAnswer(r.getIndex(), r.getHistory(), r.getAcked());
    }

    /** Returns the change number of the write in its history; 0 if the server does not say. */
    public long getIndex() {
        return index;
    }

    /** Returns the history that the change number belongs to; empty if the server does not say. */
    public String getHistory() {
        return history;
    }

    /** Returns the level that was reached; {@code ACK_DEFAULT} if the server does not say. */
    public Api.AckLevel getAcked() {
        return acked;
    }
}
