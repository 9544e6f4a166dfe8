package org.dkv.ycsb;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import site.ycsb.ByteArrayByteIterator;
import site.ycsb.ByteIterator;

class FieldsTest {
    private static final byte[] BYTES = {0, -1, 'x'};

    private static byte[] twoFields() {
        return Fields.encode(Map.of("field0", BYTES, "fäld", new byte[0]));
    }

    @Test
    void fieldsSurviveTheWayThereAndBack() {
        Map<String, byte[]> back = Fields.decode(twoFields());
        assertEquals(Set.of("field0", "fäld"), back.keySet());
        assertArrayEquals(BYTES, back.get("field0"));
        assertArrayEquals(new byte[0], back.get("fäld"));
        assertEquals(Map.of(), Fields.decode(Fields.encode(Map.of())));
    }

    @Test
    void wantedFieldsAreSelected() {
        Map<String, ByteIterator> all = new HashMap<>();
        Fields.select(twoFields(), null, all);
        assertEquals(2, all.size());
        Map<String, ByteIterator> one = new HashMap<>();
        Fields.select(twoFields(), Set.of("field0", "other"), one);
        assertEquals(Set.of("field0"), one.keySet());
        assertArrayEquals(BYTES, one.get("field0").toArray());
    }

    @Test
    void iteratorsAreReadOnce() {
        Map<String, byte[]> fields = Fields.of(Map.of("a", new ByteArrayByteIterator(BYTES)));
        assertArrayEquals(BYTES, fields.get("a"));
    }

    @Test
    void otherValuesAreRefused() {
        byte[] whole = Fields.encode(Map.of("field0", BYTES));
        for (int cut = 1; cut < whole.length; cut++) {
            byte[] broken = Arrays.copyOf(whole, cut);
            assertThrows(IllegalArgumentException.class, () -> Fields.decode(broken), "cut at " + cut);
        }
        assertThrows(IllegalArgumentException.class, () -> Fields.decode(new byte[] {-1, -1, -1, -1}));
    }
}
