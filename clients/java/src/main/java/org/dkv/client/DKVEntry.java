package org.dkv.client;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import io.grpc.Status;

/** A pair that {@code iterate} found. */
public final class DKVEntry {
    private final Api.Status status;
    private final ByteString key;
    private final ByteString value;
    private final long expiryTS;

    DKVEntry(Api.Status status, ByteString key, ByteString value, long expiryTS) {
        this.status = status;
        this.key = key;
        this.value = value;
        this.expiryTS = expiryTS;
    }

    /**
     * Checks that the server could read the pair. Servers of the earlier system report a failed iteration by an entry
     * that is none.
     *
     * @throws DKVException if it could not
     */
    public void checkStatus() {
        if (status.getCode() != 0) {
            throw new DKVException(
                    Status.UNKNOWN.withDescription(status.getMessage()), status, "Iterate", "Iterate", new Object[0],
                    DKVException.Outcome.NOT_APPLIED, null);
        }
    }

    /**
     * Returns the key.
     *
     * @throws DKVException if it is not UTF-8, or as {@link #checkStatus}
     */
    public String getKeyAsString() {
        checkStatus();
        return Bytes.toString(key, "the key", "getKeyAsByteArray");
    }

    /**
     * Returns the key.
     *
     * @throws DKVException as {@link #checkStatus}
     */
    public byte[] getKeyAsByteArray() {
        checkStatus();
        return key.toByteArray();
    }

    /**
     * Returns the value.
     *
     * @throws DKVException if it is not UTF-8, or as {@link #checkStatus}
     */
    public String getValueAsString() {
        checkStatus();
        return Bytes.toString(value, "the value of key " + Bytes.quote(key), "getValueAsByteArray");
    }

    /**
     * Returns the value.
     *
     * @throws DKVException as {@link #checkStatus}
     */
    public byte[] getValueAsByteArray() {
        checkStatus();
        return value.toByteArray();
    }

    /** Returns when the pair expires, in seconds since the epoch; 0 means never. */
    public long getExpiryTS() {
        return expiryTS;
    }

    ByteString key() {
        return key;
    }

    @Override
    public String toString() {
        return "DKVEntry{" + Bytes.quote(key) + ", value of " + value.size() + " bytes}";
    }
}
