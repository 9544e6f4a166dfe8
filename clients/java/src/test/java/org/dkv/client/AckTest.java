package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Api;
import dkv.serverpb.Api.AckLevel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledIf;
import org.junit.jupiter.api.io.TempDir;

/** Writes that wait for a slave, against a standalone dkvsrv and its slave. */
@EnabledIf(value = "org.dkv.client.ServerProcess#available", disabledReason = "there is no bin/dkvsrv; run make build")
@Timeout(90)
class AckTest {
    @Test
    void raisesTheLevelOfWrites(@TempDir Path folder) throws Exception {
        try (ServerProcess master = new ServerProcess(
                        folder, "master", "--repl-ack", "semi_sync", "--repl-ack-timeout", "500ms", "--disable-discovery-client").start();
                ServerProcess slave = new ServerProcess(
                        folder, "slave", "--role", "slave", "--repl-mode", "stream", "--repl-master-addr", master.address,
                        "--disable-discovery-client").start();
                DKVClient client = new SimpleDKVClient(master.address, options(AckLevel.ACK_SYNC));
                DKVClient copy = new SimpleDKVClient(slave.address, options(AckLevel.ACK_DEFAULT))) {
            Eventually.holds("a write reaches sync", () -> puts(client));
            answers.clear();
            client.put("k", "1");
            client.put(new KV.Strings("k2", "2"), new KV.Strings("k3", "3"));
            assertTrue(client.compareAndSet("k", "1", "2"));
            assertFalse(client.compareAndSet("k", "1", "3"));
            client.delete("k2");
            assertEquals(5, answers.size());
            for (WriteAnswer a : answers) {
                assertEquals(AckLevel.ACK_SYNC, a.getAcked());
                assertTrue(a.getIndex() > 0 && !a.getHistory().isEmpty());
            }
            assertEquals("2", copy.get(Api.ReadConsistency.SEQUENTIAL, "k"));
            slave.kill();
            Eventually.holds("writes are refused", () -> refused(client));
        }
    }

    @Test
    void rejectsNoLevel() {
        assertThrows(IllegalArgumentException.class, () -> ConnectionOptions.builder().ack(null));
        assertThrows(IllegalArgumentException.class, () -> ConnectionOptions.builder().ack(AckLevel.UNRECOGNIZED));
    }

    private final List<WriteAnswer> answers = new ArrayList<>();

    private ConnectionOptions options(AckLevel level) {
        return ConnectionOptions.builder().requestTimeout(5_000).ack(level).answers(answers::add).build();
    }

    private static boolean puts(DKVClient client) {
        try {
            client.put("first", "1");
            return true;
        } catch (DKVException e) {
            return false; // no slave stands by yet
        }
    }

    private static boolean refused(DKVClient client) {
        try {
            client.put("late", "1");
            return false;
        } catch (DKVException e) {
            return e.getMessage().contains("no slave stands by");
        }
    }
}
