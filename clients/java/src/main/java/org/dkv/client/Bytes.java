package org.dkv.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.TextFormat;
import com.google.protobuf.UnsafeByteOperations;
import io.grpc.Status;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;

/** Converts the arguments of calls to bytes and back, and rejects what would not come back unchanged. */
final class Bytes {
    /** How much of a key is shown in messages. */
    private static final int QUOTED = 64;

    private Bytes() {}

    static ByteString key(String key) {
        return notEmpty(of(key, "key"));
    }

    static ByteString key(byte[] key) {
        return notEmpty(of(key, "key"));
    }

    private static ByteString notEmpty(ByteString key) {
        if (key.isEmpty()) {
            throw new IllegalArgumentException("key is empty");
        }
        return key;
    }

    static ByteString of(String text, String what) {
        if (text == null) {
            throw new IllegalArgumentException(what + " is null");
        }
        for (int i = 0; i < text.length(); i++) {
            if (Character.isSurrogate(text.charAt(i))) {
                checkSurrogates(text, what);
                break;
            }
        }
        return ByteString.copyFromUtf8(text);
    }

    /** UTF-8 cannot encode half a surrogate pair: it would be stored as a question mark. */
    private static void checkSurrogates(String text, String what) {
        boolean whole = text.codePoints().noneMatch(c -> c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE);
        if (!whole) {
            throw new IllegalArgumentException(
                    what + " has half a surrogate pair, which UTF-8 cannot encode; pass a byte[]");
        }
    }

    /** Wraps without copying: calls block, so the caller does not change the array meanwhile. */
    static ByteString of(byte[] bytes, String what) {
        if (bytes == null) {
            throw new IllegalArgumentException(what + " is null");
        }
        return UnsafeByteOperations.unsafeWrap(bytes);
    }

    static ByteString ofNullable(String text, String what) {
        return text == null ? ByteString.EMPTY : of(text, what);
    }

    static ByteString ofNullable(byte[] bytes, String what) {
        return bytes == null ? ByteString.EMPTY : of(bytes, what);
    }

    /** Decodes UTF-8. Invalid UTF-8 is an error: decoding would replace it by other characters. */
    static String toString(ByteString bytes, String what, String instead) {
        if (!bytes.isValidUtf8()) {
            throw DKVException.of(
                    Status.FAILED_PRECONDITION.withDescription(what + " is not UTF-8; read it with " + instead),
                    "Get", "decode");
        }
        return bytes.toStringUtf8();
    }

    static String quote(ByteString key) {
        boolean all = key.size() <= QUOTED;
        return '"' + TextFormat.escapeBytes(all ? key : key.substring(0, QUOTED)) + (all ? "\"" : "\"...");
    }

    /** Encodes a counter. */
    static ByteString ofLong(long value) {
        byte[] bytes = new byte[Long.BYTES];
        for (int i = bytes.length - 1; i >= 0; i--, value >>= Byte.SIZE) {
            bytes[i] = (byte) value;
        }
        return UnsafeByteOperations.unsafeWrap(bytes);
    }

    /** Decodes a counter of eight bytes. */
    static long toLong(ByteString bytes) {
        long value = 0;
        for (int i = 0; i < Long.BYTES; i++) {
            value = value << Byte.SIZE | bytes.byteAt(i) & 0xFF;
        }
        return value;
    }

    /** Compares keys in the server's order: unsigned, byte by byte. */
    static int compare(ByteString a, ByteString b) {
        return ByteString.unsignedLexicographicalComparator().compare(a, b);
    }

    /** Converts each element of an array that must not be null or empty. */
    static <T> List<ByteString> keys(T[] keys, Function<T, ByteString> convert) {
        if (keys == null || keys.length == 0) {
            throw new IllegalArgumentException("there are no keys");
        }
        return Arrays.stream(keys).map(convert).collect(Collectors.toUnmodifiableList());
    }
}
