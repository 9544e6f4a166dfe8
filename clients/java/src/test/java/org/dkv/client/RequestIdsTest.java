package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dkv.serverpb.Api;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

class RequestIdsTest {
    private final RequestIds ids = new RequestIds();

    @Test
    void countsFromOne() {
        assertEquals(1, ids.begin().id().getSequence());
        assertEquals(2, ids.begin().id().getSequence());
    }

    @Test
    void clientsDiffer() {
        long client = ids.begin().id().getClientId();
        assertNotEquals(0, client);
        assertEquals(client, ids.begin().id().getClientId());
        assertNotEquals(client, new RequestIds().begin().id().getClientId());
    }

    @Test
    void acknowledgesUpToTheOldestUnderWay() {
        RequestIds.Ticket first = ids.begin();
        RequestIds.Ticket second = ids.begin();
        RequestIds.Ticket third = ids.begin();
        ids.end(second);
        assertEquals(0, ids.begin().id().getAcked());
        ids.end(first);
        assertEquals(2, ids.begin().id().getAcked());
        ids.end(third);
        assertEquals(3, ids.begin().id().getAcked());
    }

    @Test
    void repeatsSaySo() {
        RequestIds.Ticket t = ids.begin();
        assertFalse(t.id().getRepeat());
        assertEquals(t.id().toBuilder().setRepeat(true).build(), t.repeatedId());
    }

    @Test
    void oneThatTakesLongHoldsUpNoOthers() {
        Set<Long> clients = new HashSet<>();
        for (int slow = 0; slow < 3; slow++) {
            ids.begin();
            for (int i = 0; i < 10 * RequestIds.WINDOW; i++) {
                RequestIds.Ticket t = ids.begin();
                assertTrue(t.id().getSequence() - t.id().getAcked() <= RequestIds.WINDOW, () -> "" + t.id());
                clients.add(t.id().getClientId());
                ids.end(t);
            }
        }
        assertEquals(4, clients.size());
        Api.RequestID last = ids.begin().id();
        assertEquals(last.getSequence() - 1, last.getAcked());
    }

    @Test
    void manyAtOnceTakeSeveralIds() {
        List<RequestIds.Ticket> open = new ArrayList<>();
        Set<Long> clients = new HashSet<>();
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < 3 * RequestIds.WINDOW; i++) {
                RequestIds.Ticket t = ids.begin();
                assertTrue(t.id().getSequence() - t.id().getAcked() <= RequestIds.WINDOW, () -> "" + t.id());
                clients.add(t.id().getClientId());
                open.add(t);
            }
            Collections.shuffle(open, new Random(round));
            open.forEach(ids::end);
            open.clear();
        }
        assertEquals(3, clients.size());
    }
}
