package org.dkv.client;

import dkv.serverpb.Api;
import java.security.SecureRandom;
import java.util.ArrayDeque;

/**
 * Gives out the ids by which servers recognise a repeated write, and tells them which they may forget: all up to the
 * oldest one under way.
 */
final class RequestIds {
    private final long clientId;
    private final ArrayDeque<Ticket> underWay = new ArrayDeque<>();
    private long last;
    private long acked;

    /** An id in use. */
    static final class Ticket {
        private final long sequence;
        private boolean done;
        private Api.RequestID id;

        private Ticket(long sequence) {
            this.sequence = sequence;
        }

        Api.RequestID id() {
            return id;
        }
    }

    RequestIds() {
        SecureRandom random = new SecureRandom();
        long id;
        do {
            id = random.nextLong();
        } while (id == 0);
        this.clientId = id;
    }

    /** Begins a write. The caller must end it, whatever becomes of it. */
    synchronized Ticket begin() {
        Ticket t = new Ticket(++last);
        t.id = Api.RequestID.newBuilder().setClientId(clientId).setSequence(t.sequence).setAcked(acked).build();
        underWay.add(t);
        return t;
    }

    /** Ends a write: it will not be repeated any more. */
    synchronized void end(Ticket t) {
        t.done = true;
        while (!underWay.isEmpty() && underWay.peek().done) {
            acked = underWay.poll().sequence;
        }
    }
}
