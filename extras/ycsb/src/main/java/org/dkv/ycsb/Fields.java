package org.dkv.ycsb;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import site.ycsb.ByteArrayByteIterator;
import site.ycsb.ByteIterator;

/** Encodes the fields of a record in one value: the name and the content of each field, both preceded by their length in four bytes. */
final class Fields {
    private Fields() {}

    static byte[] encode(Map<String, byte[]> fields) {
        int size = 0;
        for (Map.Entry<String, byte[]> f : fields.entrySet()) {
            size += 2 * Integer.BYTES + f.getKey().getBytes(StandardCharsets.UTF_8).length + f.getValue().length;
        }
        ByteBuffer out = ByteBuffer.allocate(size);
        fields.forEach((name, content) -> {
            append(out, name.getBytes(StandardCharsets.UTF_8));
            append(out, content);
        });
        return out.array();
    }

    private static void append(ByteBuffer out, byte[] bytes) {
        out.putInt(bytes.length).put(bytes);
    }

    /**
     * Decodes a value.
     *
     * @throws IllegalArgumentException if it was not encoded by this class
     */
    static Map<String, byte[]> decode(byte[] value) {
        Map<String, byte[]> fields = new TreeMap<>();
        ByteBuffer in = ByteBuffer.wrap(value);
        try {
            while (in.hasRemaining()) {
                String name = new String(next(in), StandardCharsets.UTF_8);
                fields.put(name, next(in));
            }
        } catch (BufferUnderflowException e) {
            throw new IllegalArgumentException("a value of " + value.length + " bytes holds no fields", e);
        }
        return fields;
    }

    private static byte[] next(ByteBuffer in) {
        int length = in.getInt();
        if (length < 0 || length > in.remaining()) {
            throw new BufferUnderflowException();
        }
        byte[] bytes = new byte[length];
        in.get(bytes);
        return bytes;
    }

    /** Reads the iterators of a workload, which can be read only once. */
    static Map<String, byte[]> of(Map<String, ByteIterator> values) {
        Map<String, byte[]> fields = new TreeMap<>();
        values.forEach((name, content) -> fields.put(name, content.toArray()));
        return fields;
    }

    /** Puts the requested fields into the map of a workload; null requests all. */
    static void select(byte[] value, Set<String> wanted, Map<String, ByteIterator> into) {
        decode(value).forEach((name, content) -> {
            if (wanted == null || wanted.contains(name)) {
                into.put(name, new ByteArrayByteIterator(content));
            }
        });
    }
}
