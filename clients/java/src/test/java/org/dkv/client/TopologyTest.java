package org.dkv.client;

import static dkv.serverpb.Admin.RegionStatus.ACTIVE_SLAVE;
import static dkv.serverpb.Admin.RegionStatus.INACTIVE;
import static dkv.serverpb.Admin.RegionStatus.LEADER;
import static dkv.serverpb.Admin.RegionStatus.PRIMARY_FOLLOWER;
import static dkv.serverpb.Admin.RegionStatus.SECONDARY_FOLLOWER;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dkv.serverpb.Admin;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class TopologyTest {
    private static Admin.RegionInfo row(String dc, String vBucket, String node, Admin.RegionStatus status) {
        return Admin.RegionInfo.newBuilder()
                .setDatabase("db").setDcID(dc).setVBucket(vBucket).setNodeAddress(node).setStatus(status).build();
    }

    @Test
    void ownersAreLeaderThenFollowersAndNeverSlaves() {
        Topology t = new Topology(List.of(
                row("x", "v", "slave", ACTIVE_SLAVE), row("x", "v", "second", SECONDARY_FOLLOWER),
                row("x", "v", "leader", LEADER), row("x", "v", "off", INACTIVE),
                row("x", "v", "first", PRIMARY_FOLLOWER)), null);
        assertEquals("v", t.vBucket(ByteString.copyFromUtf8("any")));
        assertEquals(List.of("leader", "first", "second"), t.owners("v"));
        assertEquals(List.of(), t.owners("other"));
    }

    @Test
    void replicasAreNearSlavesFirst() {
        List<Admin.RegionInfo> rows = List.of(
                row("far", "v", "far-slave", ACTIVE_SLAVE), row("far", "v", "far-leader", LEADER),
                row("near", "v", "follower", PRIMARY_FOLLOWER), row("near", "v", "slave", ACTIVE_SLAVE),
                row("near", "v", "off", INACTIVE));
        assertEquals(List.of("slave", "follower", "far-slave", "far-leader"),
                new Topology(rows, "near").replicas(Set.of("v")));
        assertEquals(Set.of("slave", "far-slave"),
                Set.copyOf(new Topology(rows, null).replicas(Set.of("v")).subList(0, 2)));
    }

    @Test
    void theLeaderOfTheNewestTermLeads() {
        Topology t = new Topology(List.of(
                row("x", "v", "old", LEADER).toBuilder().setTerm(3).build(),
                row("x", "v", "new", LEADER).toBuilder().setTerm(4).build()), null);
        assertEquals(List.of("new", "old"), t.owners("v"));
    }

    @Test
    void keysAreInNumberedVBuckets() {
        Topology t = new Topology(
                List.of(row("x", "0", "a", LEADER).toBuilder().setVBuckets(8).build()), null);
        ByteString key = ByteString.copyFromUtf8("abc"); // its hash ends in 0999
        assertEquals(Integer.toString(0x0999 % 8), t.vBucket(key));
        assertEquals(8, t.vBuckets().size());
    }

    @Test
    void vBucketsAreCountedWhereNoRowTells() {
        Topology t = new Topology(List.of(row("x", "0", "a", LEADER), row("x", "1", "b", LEADER)), null);
        assertEquals(Set.of("0", "1"), Set.copyOf(t.vBuckets()));
        assertEquals(Integer.toString(0x0999 % 2), t.vBucket(ByteString.copyFromUtf8("abc")));
    }

    @Test
    void shardsThatShareADatabaseAreNotGuessedAt() {
        Topology t = new Topology(List.of(
                row("x", "0", "a", LEADER).toBuilder().setVBuckets(1).build(),
                row("x", "1", "b", LEADER).toBuilder().setVBuckets(1).build()), null);
        DKVException e = assertThrows(DKVException.class, () -> t.vBucket(ByteString.copyFromUtf8("abc")));
        assertTrue(e.getMessage().contains("[0, 1]"), e.getMessage());
    }

    @Test
    void whatConcernsSeveralVBucketsNeedsANodeWithAll() {
        Topology t = new Topology(List.of(
                row("x", "0", "a", LEADER), row("x", "1", "a", SECONDARY_FOLLOWER),
                row("x", "0", "b", PRIMARY_FOLLOWER), row("x", "1", "b", LEADER),
                row("x", "1", "c", ACTIVE_SLAVE)), null);
        assertEquals(List.of("b", "a"), t.owners(List.of("0", "1")));
        assertEquals(Set.of("a", "b"), Set.copyOf(t.replicas(List.of("0", "1"))));
        assertEquals("c", t.replicas(List.of("1")).get(0));
    }

    /** A registry lists them in the order of their vBuckets, and a node has a row for each. */
    @Test
    void theLastVBucketOfALargeDatabaseHasNodesToo() {
        Admin.ClusterInfoChange.Builder all = Admin.ClusterInfoChange.newBuilder();
        IntStream.range(0, 1024).mapToObj(Integer::toString).sorted().forEach(vBucket -> {
            all.addRows(row("x", vBucket, "leader:1", LEADER));
            for (int i = 0; i < 64; i++) {
                all.addRows(row("x", vBucket, "slave" + i + ":1", ACTIVE_SLAVE));
            }
        });
        TopologyWatch.Rows rows = new TopologyWatch.Rows(TopologyWatch.Rows.MAX_ROWS);
        rows.apply(all.build());
        Topology t = Topology.of(rows.all(), new Binding("db"), null);
        assertEquals(List.of("leader:1"), t.owners("999"));
        assertEquals(65, t.replicas(t.vBuckets()).size());
    }

    @Test
    void slavesLeaveRoomForMasters() {
        TopologyWatch.Rows rows = new TopologyWatch.Rows(3);
        Admin.ClusterInfoChange.Builder all = Admin.ClusterInfoChange.newBuilder();
        for (int i = 0; i < 10; i++) {
            all.addRows(row("x", "v", "slave" + i + ":1", ACTIVE_SLAVE));
        }
        rows.apply(all.addRows(row("x", "v", "leader:1", LEADER)).build());
        assertEquals(List.of("leader:1"), Topology.of(rows.all(), new Binding("db"), null).owners("v"));
        assertEquals(4, rows.all().size());
        all.clear();
        for (int i = 0; i < 10; i++) {
            all.addRows(row("x", "v", "master" + i + ":1", SECONDARY_FOLLOWER));
        }
        rows.apply(all.build());
        assertEquals(6, rows.all().size());
    }

    @Test
    void nothingIsKnownAtFirst() {
        assertEquals(List.of(), Topology.EMPTY.owners(Topology.EMPTY.vBucket(ByteString.copyFromUtf8("k"))));
        assertEquals(List.of(), Topology.EMPTY.vBuckets());
    }
}
