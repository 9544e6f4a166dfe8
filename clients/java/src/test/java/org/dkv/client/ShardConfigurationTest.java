package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import java.io.StringReader;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ShardConfigurationTest {
    private static final String TWO_SHARDS = """
            {"dkvShards": [
              {"name": "shard0", "topology": {
                "MASTER": {"name": "m0", "nodes": [{"host": "10.0.0.1", "port": 8080}, {"host": "::1", "port": 8081}]},
                "SLAVE": {"name": "s0", "nodes": [{"host": "10.0.0.2", "port": 8082}]}}},
              {"name": "shard1", "topology": {
                "UNKNOWN": {"name": "u1", "nodes": [{"host": "proxy", "port": 80}]}}}]}""";

    private static ShardConfiguration parse(String json) {
        return ShardConfiguration.fromJson(new StringReader(json));
    }

    private static void hasBothShards(ShardConfiguration c) {
        assertEquals(2, c.getNumShards());
        DKVShard first = c.getShardAtIndex(0);
        assertEquals("shard0", first.getName());
        DKVNodeSet masters = first.getNodesByType(DKVNodeType.MASTER);
        assertEquals("m0", masters.getName());
        assertEquals(2, masters.getNumNodes());
        assertEquals(new DKVNode("10.0.0.1", 8080), masters.getNodes()[0]);
        assertEquals("[::1]:8081", masters.getNodes()[1].address());
        DKVNodeSet one = c.getShardAtIndex(1).getNodesByType(DKVNodeType.MASTER, DKVNodeType.UNKNOWN);
        assertEquals("u1", one.getName());
        assertEquals(new DKVNode("proxy", 80), one.getNextNode());
    }

    @Test
    void readsJson() {
        hasBothShards(parse(TWO_SHARDS));
    }

    @Test
    void isReadByGsonDirectlyAsApplicationsDo() {
        hasBothShards(new Gson().fromJson(TWO_SHARDS, ShardConfiguration.class));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "''|empty",
        "{|End of input",
        "{}|has no dkvShards",
        "{\"dkvShards\": []}|has no dkvShards",
        "{\"dkvShards\": [null]}|shard 0 is null",
        "{\"dkvShards\": [{\"topology\": {}}]}|shard 0 has no name",
        "{\"dkvShards\": [{\"name\": \"a\"}]}|a has no topology",
        "{\"dkvShards\": [{\"name\": \"a\", \"topology\": {\"LEADER\": {}}}]}|types are MASTER",
        "{\"dkvShards\": [{\"name\": \"a\", \"topology\": {\"MASTER\": {\"name\": \"m\"}}}]}|m has no nodes",
        "{\"dkvShards\": [{\"name\": \"a\", \"topology\": {\"MASTER\": {\"name\": \"m\", \"nodes\": [{\"port\": 1}]}}}]}|has no host",
        "{\"dkvShards\": [{\"name\": \"a\", \"topology\": {\"MASTER\": {\"name\": \"m\", \"nodes\": [{\"host\": \"h\"}]}}}]}|port 0",
    })
    void refusesWhatIsNotComplete(String json, String why) {
        String text = assertThrows(IllegalArgumentException.class, () -> parse(json)).getMessage();
        assertTrue(text.contains(why), text);
    }

    @Test
    void refusesTwoShardsOfOneName() {
        DKVShard shard = shard("a");
        assertThrows(IllegalArgumentException.class, () -> new ShardConfiguration(new DKVShard[] {shard, shard("a")}));
        assertNotEquals(shard, shard("b"));
    }

    @Test
    void checksWhatOthersDeserialized() {
        ShardConfiguration broken = new Gson().fromJson("{}", ShardConfiguration.class);
        assertThrows(IllegalArgumentException.class, () -> new KeyHashBasedShardProvider(broken));
    }

    @Test
    void indexesMustBeOfShards() {
        ShardConfiguration c = parse(TWO_SHARDS);
        assertThrows(IllegalArgumentException.class, () -> c.getShardAtIndex(2));
        assertThrows(IllegalArgumentException.class, () -> c.getShardAtIndex(-1));
        assertThrows(IllegalArgumentException.class, () -> c.getShardAtIndex(1).getNodesByType(DKVNodeType.SLAVE));
    }

    @Test
    void nodesTakeTurns() {
        DKVNode a = new DKVNode("a", 1);
        DKVNode b = new DKVNode("b", 1);
        DKVNodeSet set = new DKVNodeSet("s", Set.of(a, b));
        DKVNode first = set.getNextNode();
        assertNotEquals(first, set.getNextNode());
        assertEquals(first, set.getNextNode());
    }

    private static DKVShard shard(String name) {
        return new DKVShard(
                name, Map.of(DKVNodeType.MASTER, new DKVNodeSet("m", Set.of(new DKVNode("localhost", 8080)))));
    }
}
