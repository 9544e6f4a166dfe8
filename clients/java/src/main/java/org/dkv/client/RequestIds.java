package org.dkv.client;

import dkv.serverpb.Api;
import java.security.SecureRandom;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Assigns the ids by which servers recognise a repeated write, and acknowledges the results that servers may drop: all
 * up to the oldest write in progress. With a single client id, one slow write would keep the results of all later ones,
 * so there are as many client ids as the writes in progress need.
 */
final class RequestIds {
    /** The most open writes of one client id: half of the results that servers remember of it. */
    static final int WINDOW = 512;

    private final SecureRandom random = new SecureRandom();
    /** The first one assigns the next id. */
    private final List<Session> sessions = new ArrayList<>();

    /** One client id, which servers take for one client. */
    private static final class Session {
        private final long clientId;
        /** The writes that are not known to be done, the oldest first. */
        private final ArrayDeque<Ticket> open = new ArrayDeque<>();
        private long last;
        private long acked;

        private Session(long clientId) {
            this.clientId = clientId;
        }

        private int room() {
            return WINDOW - open.size();
        }
    }

    /** An id in use. */
    static final class Ticket {
        private final Session session;
        private final Api.RequestID id;
        private boolean done;

        private Ticket(Session session) {
            this.session = session;
            this.id = Api.RequestID.newBuilder()
                    .setClientId(session.clientId).setSequence(++session.last).setAcked(session.acked).build();
        }

        Api.RequestID id() {
            return id;
        }

        /** Returns the id for an attempt after one that may have been applied. */
        Api.RequestID repeatedId() {
            return id.toBuilder().setRepeat(true).build();
        }
    }

    RequestIds() {
        add();
    }

    private void add() {
        long id;
        do {
            id = random.nextLong();
        } while (id == 0);
        sessions.add(0, new Session(id));
    }

    /** Begins a write. The caller must end it, whether it succeeds or not. */
    synchronized Ticket begin() {
        if (sessions.get(0).room() == 0) {
            makeRoom();
        }
        Session s = sessions.get(0);
        Ticket t = new Ticket(s);
        s.open.add(t);
        return t;
    }

    /** Puts the session with the fewest open writes first, or a new one if all are full. */
    private void makeRoom() {
        int most = 0;
        for (int i = 1; i < sessions.size(); i++) {
            if (sessions.get(i).room() > sessions.get(most).room()) {
                most = i;
            }
        }
        if (sessions.get(most).room() == 0) {
            add();
        } else {
            Collections.swap(sessions, 0, most);
        }
    }

    /** Ends a write: it will not be sent again. */
    synchronized void end(Ticket t) {
        t.done = true;
        Session s = t.session;
        while (!s.open.isEmpty() && s.open.peek().done) {
            s.acked = s.open.poll().id.getSequence();
        }
    }
}
