package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

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
}
