package org.dkv.client;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Addresses that no one else takes before a server of these tests listens there, or comes back there: on a loopback
 * address that belongs to this process, as internal/testkit does it for the Go tests.
 */
final class Addresses {
    private static final int GUARD_PORT = 9641;
    private static final int FIRST_PORT = 10_000;
    private static final int TRIES = 100;

    /** Holds the process's loopback address for as long as the process lives. */
    private static final ServerSocket GUARD = claim();
    private static final AtomicInteger NEXT = new AtomicInteger(FIRST_PORT);

    private Addresses() {}

    private static ServerSocket claim() {
        IOException last = null;
        for (int i = 0; i < TRIES; i++) {
            ThreadLocalRandom random = ThreadLocalRandom.current();
            byte[] ip = {127, (byte) random.nextInt(64, 128), (byte) random.nextInt(256), (byte) random.nextInt(1, 255)};
            try {
                return new ServerSocket(GUARD_PORT, 1, InetAddress.getByAddress(ip));
            } catch (IOException e) {
                last = e;
            }
        }
        throw new UncheckedIOException("tests need the loopback addresses 127.0.0.0/8, as Linux has them", last);
    }

    /** Returns an address, as host:port, that is given out once and that nothing listens on. */
    static String next() {
        return GUARD.getInetAddress().getHostAddress() + ":" + NEXT.getAndIncrement();
    }

    /** Returns such an address. */
    static InetSocketAddress nextSocket() {
        return new InetSocketAddress(GUARD.getInetAddress(), NEXT.getAndIncrement());
    }
}
