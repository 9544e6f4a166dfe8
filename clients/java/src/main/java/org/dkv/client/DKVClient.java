package org.dkv.client;

import dkv.serverpb.Api;
import java.io.Closeable;

/**
 * Reads and writes keys. All methods block until the response arrives or the configured time limit ends, and may be
 * called by many threads at once.
 *
 * <p>Keys and values are bytes; strings are stored as UTF-8. A missing or expired key reads as an empty value. Expiry
 * times ({@code expiryTS}) are seconds since the epoch, and 0 means never; after a time in the past the key is absent.
 *
 * <p>A call that fails throws a {@link DKVException}, which says whether a write was applied. Arguments that can
 * never be valid, such as a null or empty key, cause an {@link IllegalArgumentException}; calls of a closed client an
 * {@link IllegalStateException}.
 */
public interface DKVClient extends Closeable {

    /** Sets a key that never expires. */
    void put(String key, String value);

    /** Sets a key that expires at {@code expiryTS}, in seconds since the epoch. */
    void put(String key, String value, long expiryTS);

    /** Sets a key that never expires. */
    void put(byte[] key, byte[] value);

    /** Sets a key that expires at {@code expiryTS}, in seconds since the epoch. */
    void put(byte[] key, byte[] value, long expiryTS);

    /**
     * Sets several keys atomically.
     *
     * @throws UnsupportedOperationException if the keys are in several shards
     */
    void put(KV.Strings... pairs);

    /**
     * Sets several keys atomically.
     *
     * @throws UnsupportedOperationException if the keys are in several shards
     */
    void put(KV.Bytes... pairs);

    /**
     * Reads a key.
     *
     * @return the value; empty if the key is missing, has expired or is empty
     * @throws DKVException also if the value is not UTF-8: read such a key as bytes
     */
    String get(Api.ReadConsistency consistency, String key);

    /**
     * Reads a key.
     *
     * @return the value; empty if the key is missing, has expired or is empty
     */
    byte[] get(Api.ReadConsistency consistency, byte[] key);

    /**
     * Reads several keys.
     *
     * @return the pairs that exist, in the order of the keys
     * @throws UnsupportedOperationException if the keys are in several shards and the consistency is LINEARIZABLE
     * @throws DKVException also if a value is not UTF-8
     */
    KV.Strings[] multiGet(Api.ReadConsistency consistency, String[] keys);

    /**
     * Reads several keys.
     *
     * @return the pairs that exist, in the order of the keys
     * @throws UnsupportedOperationException if the keys are in several shards and the consistency is LINEARIZABLE
     */
    KV.Bytes[] multiGet(Api.ReadConsistency consistency, byte[][] keys);

    /**
     * Sets a key to {@code update}, without an expiry, if it holds {@code expect}.
     *
     * @param expect the value expected; null or empty expects the key to be absent, expired or empty
     * @return whether the key was set
     */
    boolean compareAndSet(byte[] key, byte[] expect, byte[] update);

    /** As {@link #compareAndSet(byte[], byte[], byte[])}, for a new value that expires at {@code expiryTS}. */
    boolean compareAndSet(byte[] key, byte[] expect, byte[] update, long expiryTS);

    /** As {@link #compareAndSet(byte[], byte[], byte[])}. */
    boolean compareAndSet(String key, String expect, String update);

    /** As {@link #compareAndSet(byte[], byte[], byte[], long)}. */
    boolean compareAndSet(String key, String expect, String update, long expiryTS);

    /** As {@link #addAndGet(byte[], long)} with 1. */
    default long incrementAndGet(byte[] key) {
        return addAndGet(key, 1);
    }

    /** As {@link #addAndGet(byte[], long, long)} with 1. */
    default long incrementAndGet(byte[] key, long expiryTS) {
        return addAndGet(key, 1, expiryTS);
    }

    /** As {@link #addAndGet(byte[], long)} with -1. */
    default long decrementAndGet(byte[] key) {
        return addAndGet(key, -1);
    }

    /** As {@link #addAndGet(byte[], long, long)} with -1. */
    default long decrementAndGet(byte[] key, long expiryTS) {
        return addAndGet(key, -1, expiryTS);
    }

    /**
     * Adds to a counter, eight bytes big endian, and keeps its expiry. A missing or empty key counts as 0.
     *
     * @return the counter after the addition
     * @throws DKVException also if the key holds something else, or the sum is outside the range of long
     */
    long addAndGet(byte[] key, long delta);

    /**
     * As {@link #addAndGet(byte[], long)}, for a counter that expires at {@code expiryTS}; 0 keeps the expiry that it
     * has.
     */
    long addAndGet(byte[] key, long delta, long expiryTS);

    /** Removes a key; removing an absent key succeeds. */
    void delete(String key);

    /** Removes a key; removing an absent key succeeds. */
    void delete(byte[] key);

    /** Iterates over all keys from {@code startKey} on; null or empty starts with the first. */
    DKVEntryIterator iterate(String startKey);

    /** Iterates over all keys from {@code startKey} on; null or empty starts with the first. */
    DKVEntryIterator iterate(byte[] startKey);

    /**
     * Iterates over the keys that begin with {@code keyPrefix} in byte order, from {@code startKey} on, which must
     * begin with it too; null or empty starts with the first.
     */
    DKVEntryIterator iterate(String startKey, String keyPrefix);

    /** As {@link #iterate(String, String)}. */
    DKVEntryIterator iterate(byte[] startKey, byte[] keyPrefix);

    /** Ends the calls in progress and closes all connections. It may be called again. */
    @Override
    void close();
}
