package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.protobuf.ByteString;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class KeyHashTest {
    /** Digests of XXH64 with seed 0, as its specification's implementation gives them. */
    @ParameterizedTest
    @CsvSource({
        "'', ef46db3751d8e999",
        "a, d24ec4f1a98c6e5b",
        "abc, 44bc2cf5ad770999",
        "'Nobody inspects the spammish repetition', fbcea83c8a378bf1",
    })
    void isXxHash64(String key, String digest) {
        int slot = (int) (Long.parseUnsignedLong(digest, 16) & 0xFFFF);
        for (int parts : new int[] {1, 2, 3, 10, 1024}) {
            assertEquals(slot % parts, KeyHash.part(key.getBytes(StandardCharsets.UTF_8), parts));
            assertEquals(slot % parts, KeyHash.part(ByteString.copyFromUtf8(key), parts));
        }
    }

    private static KeyHashBasedShardProvider provider(int count) {
        DKVShard[] shards = new DKVShard[count];
        for (int i = 0; i < count; i++) {
            DKVNodeSet nodes = new DKVNodeSet("m" + i, Set.of(new DKVNode("host" + i, 1000 + i)));
            shards[i] = new DKVShard("shard" + i, Map.of(DKVNodeType.MASTER, nodes));
        }
        return new KeyHashBasedShardProvider(new ShardConfiguration(shards));
    }

    @Test
    void providesTheSameShardForStringsAndTheirBytes() {
        KeyHashBasedShardProvider p = provider(10);
        for (String key : List.of("a", "abc", "käse", "\uD83D\uDE00")) {
            assertSame(p.provideShard(key), p.provideShard(key.getBytes(StandardCharsets.UTF_8)), key);
        }
    }

    @Test
    void groupsKeysInTheirOrder() {
        KeyHashBasedShardProvider p = provider(2);
        String[] keys = {"a", "b", "c", "d", "e", "f", "g", "h"};
        Map<DKVShard, List<String>> groups = p.provideShards(keys);
        assertEquals(2, groups.size());
        groups.forEach((shard, in) -> {
            assertEquals(in.stream().sorted().toList(), in);
            in.forEach(key -> assertSame(shard, p.provideShard(key)));
        });
        assertEquals(keys.length, groups.values().stream().mapToInt(List::size).sum());
    }

    @Test
    void spreadsKeysEvenly() {
        int[] counts = new int[16];
        for (int i = 0; i < 16_000; i++) {
            counts[KeyHash.part(("key" + i).getBytes(StandardCharsets.UTF_8), counts.length)]++;
        }
        for (int n : counts) {
            assertEquals(1000, n, 200);
        }
    }

    @Test
    void needsKeysAndShards() {
        assertThrows(IllegalArgumentException.class, () -> new KeyHashBasedShardProvider(null));
        assertThrows(IllegalArgumentException.class, () -> provider(1).provideShards(new byte[0][]));
        assertThrows(IllegalArgumentException.class, () -> provider(1).provideShards((String[]) null));
        assertThrows(IllegalArgumentException.class, () -> provider(1).provideShard((String) null));
    }
}
