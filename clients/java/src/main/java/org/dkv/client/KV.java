package org.dkv.client;

/**
 * A key and its value, for {@link DKVClient#put(KV.Strings...)} and in the result of {@code multiGet}.
 *
 * @param <K> type of the key
 * @param <V> type of the value
 */
public class KV<K, V> {
    private final K key;
    private final V value;
    private final long expiryTS;

    private KV(K key, V value, long expiryTS) {
        this.key = key;
        this.value = value;
        this.expiryTS = expiryTS;
    }

    /** Returns the key. */
    public final K getKey() {
        return key;
    }

    /** Returns the value. */
    public final V getValue() {
        return value;
    }

    /** Returns when the pair expires, in seconds since the epoch; 0 means never. */
    public final long getExpiryTS() {
        return expiryTS;
    }

    /** A pair of strings, which are stored as UTF-8. */
    public static final class Strings extends KV<String, String> {
        /** Makes a pair that never expires. */
        public Strings(String key, String value) {
            this(key, value, 0);
        }

        /** Makes a pair that expires at {@code expiryTS}, in seconds since the epoch; 0 means never. */
        public Strings(String key, String value, long expiryTS) {
            super(key, value, expiryTS);
        }
    }

    /** A pair of byte arrays. The arrays are not copied: do not change them. */
    public static final class Bytes extends KV<byte[], byte[]> {
        /** Makes a pair that never expires. */
        public Bytes(byte[] key, byte[] value) {
            this(key, value, 0);
        }

        /** Makes a pair that expires at {@code expiryTS}, in seconds since the epoch; 0 means never. */
        public Bytes(byte[] key, byte[] value, long expiryTS) {
            super(key, value, expiryTS);
        }
    }
}
