package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BytesTest {
    @ParameterizedTest
    @ValueSource(longs = {0, 1, -1, 255, 256, Long.MAX_VALUE, Long.MIN_VALUE, 0x0102030405060708L})
    void countersSurviveTheWayThere(long n) {
        assertEquals(n, Bytes.toLong(Bytes.ofLong(n)));
    }

    @Test
    void countersAreBigEndian() {
        assertArrayEquals(new byte[] {1, 2, 3, 4, 5, 6, 7, 8}, Bytes.ofLong(0x0102030405060708L).toByteArray());
    }

    @Test
    void wholeSurrogatePairsAreUtf8() {
        assertEquals(4, Bytes.key("\uD83D\uDE00").size());
    }

    @ParameterizedTest
    @ValueSource(strings = {"\uD83D", "a\uDE00", "\uDE00\uD83D"})
    void halfSurrogatePairsAreRefused(String key) {
        String text = assertThrows(IllegalArgumentException.class, () -> Bytes.key(key)).getMessage();
        assertTrue(text.contains("byte[]"), text);
    }

    @Test
    void keysMustBeThere() {
        assertThrows(IllegalArgumentException.class, () -> Bytes.key((String) null));
        assertThrows(IllegalArgumentException.class, () -> Bytes.key((byte[]) null));
        assertThrows(IllegalArgumentException.class, () -> Bytes.key(""));
        assertThrows(IllegalArgumentException.class, () -> Bytes.key(new byte[0]));
    }

    @Test
    void whatIsNoUtf8IsNotDecoded() {
        DKVException e = assertThrows(DKVException.class,
                () -> Bytes.toString(ByteString.copyFrom(new byte[] {(byte) 0xFF}), "the value", "getBytes"));
        assertTrue(e.getMessage().contains("the value is not UTF-8; read it with getBytes"), e.getMessage());
    }

    @Test
    void quotesAreShortAndPrintable() {
        assertEquals("\"a\\000\\377\"", Bytes.quote(ByteString.copyFrom(new byte[] {'a', 0, (byte) 0xFF})));
        String quoted = Bytes.quote(ByteString.copyFromUtf8("k".repeat(100)));
        assertEquals("\"" + "k".repeat(64) + "\"...", quoted);
    }

    @Test
    void keysAreOrderedUnsigned() {
        ByteString high = ByteString.copyFrom(new byte[] {(byte) 0x80});
        assertTrue(Bytes.compare(ByteString.copyFrom(new byte[] {1}), high) < 0);
    }
}
