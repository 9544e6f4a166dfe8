package org.dkv.client;

import static dkv.serverpb.Admin.RegionStatus.ACTIVE_SLAVE;
import static dkv.serverpb.Admin.RegionStatus.INACTIVE;
import static dkv.serverpb.Admin.RegionStatus.LEADER;
import static dkv.serverpb.Admin.RegionStatus.SECONDARY_FOLLOWER;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Admin;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

class BindingTest {
    private final Binding binding = new Binding("db");

    private static Admin.RegionInfo row(
            String vBucket, String node, Admin.RegionStatus status, String cluster, int vBuckets) {
        return Admin.RegionInfo.newBuilder().setDatabase("db").setVBucket(vBucket).setNodeAddress(node)
                .setStatus(status).setClusterID(cluster).setVBuckets(vBuckets).build();
    }

    private List<String> admitted(Admin.RegionInfo... rows) {
        return binding.admit(List.of(rows)).stream()
                .map(r -> r.getVBucket() + "@" + r.getNodeAddress()).collect(Collectors.toList());
    }

    @Test
    void rowsOfAnotherClusterAreLeftOutWhereverTheyStand() {
        Admin.RegionInfo leader = row("default", "m:1", LEADER, "ours", 1);
        Admin.RegionInfo slave = row("default", "s:1", ACTIVE_SLAVE, "ours", 1);
        assertEquals(List.of("default@m:1", "default@s:1"), admitted(leader, slave));
        assertNull(binding.stranger());
        Admin.RegionInfo[] theirs = {
            row("default", "a:1", LEADER, "theirs", 1), row("v", "a:1", LEADER, "theirs", 1),
            row("0", "a:1", LEADER, "theirs", 8), row("default", "a:1", LEADER, "theirs", 0),
            row("default", "a:1", LEADER, "", 0), row("x", "a:1", ACTIVE_SLAVE, "", 0),
        };
        for (Admin.RegionInfo row : theirs) {
            assertEquals(List.of("default@m:1"), admitted(row, leader), row.toString());
            assertTrue(binding.stranger().contains("node a:1"), binding.stranger());
            assertEquals(List.of(), admitted(row), row.toString());
        }
        assertEquals(List.of("default@m:1", "default@old:1"),
                admitted(leader, row("default", "old:1", ACTIVE_SLAVE, "", 0)));
        assertNull(binding.stranger());
    }

    @Test
    void oneRowOfAnotherLayoutChangesNothing() {
        for (int odd : new int[] {7, 1024, 65_536}) {
            Binding fresh = new Binding("db");
            List<Admin.RegionInfo> rows = List.of(
                    row("6", "x:1", LEADER, "x", odd), row("default", "m:1", LEADER, "ours", 1));
            assertEquals(1, fresh.admit(rows).size());
            assertEquals(1, fresh.layout().parts());
        }
    }

    @Test
    void rowsThatNothingCanBeDoneWithAreLeftOut() {
        Admin.RegionInfo good = row("0", "m:1", LEADER, "c0", 2);
        Admin.RegionInfo other = row("1", "m:1", LEADER, "c1", 2);
        List<Admin.RegionInfo> rows = new ArrayList<>(List.of(
                good.toBuilder().setVBuckets(-1).build(), good.toBuilder().setVBuckets(Integer.MIN_VALUE).build(),
                good.toBuilder().setVBuckets(1 << 20).build(), good.toBuilder().setVBucket("2").build(),
                good.toBuilder().setVBucket("00").build(), good.toBuilder().setVBucket("").build(),
                good.toBuilder().setDatabase("other").build(), good.toBuilder().setStatus(INACTIVE).build(),
                good.toBuilder().setStatusValue(99).build(),
                good.toBuilder().setClusterID("x".repeat(100_000)).build()));
        for (String address : List.of("", "host", ":1", "host:", "host:0", "host:65536", "host:-1", "host:1x", "a b:1",
                "0.0.0.0:80", "[::]:80", "unix:///tmp/x:1", "dns:///host:1", "http://host:80", "host\n:1",
                "h\u00e9:1", "a-b.c_d:9", "[%]:80", "_:1", "x".repeat(300) + ":1")) {
            rows.add(good.toBuilder().setNodeAddress(address).build());
        }
        for (Admin.RegionInfo row : rows) {
            assertEquals(List.of("0@m:1", "1@m:1"), new Binding("db").admit(List.of(row, good, other)).stream()
                    .map(r -> r.getVBucket() + "@" + r.getNodeAddress()).collect(Collectors.toList()), row.toString());
        }
        for (String address : List.of("host:1", "10.0.0.1:80", "[::1]:65535", "a-b.c9:9")) {
            assertTrue(HostPort.valid(address), address);
        }
    }

    @Test
    void nodesThatNameNothingServeAsBefore() {
        assertEquals(List.of("a@m:1", "b@n:1"), admitted(
                row("a", "m:1", LEADER, "", 0), row("b", "n:1", LEADER, "", 0)));
        assertFalse(binding.layout().known());
        // One row does not cut the database.
        assertEquals(List.of("a@m:1"), admitted(row("a", "m:1", LEADER, "", 0)));
        admitted(row("a", "m:1", LEADER, "", 0), row("3", "x:1", LEADER, "x", 7));
        assertFalse(binding.layout().known());
    }

    @Test
    void mostNodesAreRightAtFirst() {
        assertEquals(List.of("default@m:1", "default@n:1"), admitted(
                row("default", "a:1", LEADER, "theirs", 1), row("default", "m:1", LEADER, "ours", 1),
                row("default", "n:1", SECONDARY_FOLLOWER, "ours", 1)));
        assertNotNull(binding.stranger());
        assertEquals("ours", binding.clusters().get("default"));
    }
}
