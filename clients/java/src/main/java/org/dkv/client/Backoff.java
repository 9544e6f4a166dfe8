package org.dkv.client;

import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The pauses between attempts, with jitter, so that clients do not retry in step. They double up to a bound and then
 * grow by a quarter up to a second bound: many attempts do not help what takes that long.
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

    /** Makes the pauses between attempts at registries, which even idle clients ask. */
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
