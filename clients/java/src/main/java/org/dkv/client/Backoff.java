package org.dkv.client;

import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The pauses between attempts, with jitter, so that clients do not return all at once. They double up to a bound, and grow
 * by a quarter up to a second one: what takes that long is not helped by many attempts.
 */
final class Backoff {
    private final long slow;
    private final long last;
    private long pause;

    /** Makes the pauses of a call: from 8 to 256 ms at first, a second after about five. */
    Backoff() {
        this(8, 256, 1000);
    }

    private Backoff(long firstMillis, long slowMillis, long lastMillis) {
        this.pause = TimeUnit.MILLISECONDS.toNanos(firstMillis);
        this.slow = TimeUnit.MILLISECONDS.toNanos(slowMillis);
        this.last = TimeUnit.MILLISECONDS.toNanos(lastMillis);
    }

    /** Makes the pauses between registries, of which clients ask also when they have nothing to do. */
    static Backoff ofRegistries() {
        return new Backoff(50, 2000, 2000);
    }

    /** Returns how long to pause next, in nanoseconds. */
    long next() {
        long jittered = pause / 2 + ThreadLocalRandom.current().nextLong(pause);
        pause = pause < slow ? Math.min(2 * pause, slow) : Math.min(pause + pause / 4, last);
        return jittered;
    }
}
