package org.dkv.client;

import com.google.protobuf.ByteString;
import java.nio.charset.StandardCharsets;
import net.openhft.hashing.LongHashFunction;

/** Maps keys to parts of a keyspace as servers do: (xxHash64(key) &amp; 0xFFFF) mod parts, with seed 0. */
final class KeyHash {
    private static final LongHashFunction XX = LongHashFunction.xx();
    private static final int SLOTS = 0xFFFF;

    private KeyHash() {}

    static int part(byte[] key, int parts) {
        return (int) (XX.hashBytes(key) & SLOTS) % parts;
    }

    /** Returns the hash of a cluster's id that its requests carry. */
    static long cluster(String id) {
        return XX.hashBytes(id.getBytes(StandardCharsets.UTF_8));
    }

    static int part(ByteString key, int parts) {
        return parts == 1 ? 0 : part(key.toByteArray(), parts);
    }
}
