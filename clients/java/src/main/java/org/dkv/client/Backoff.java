package org.dkv.client;

import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** The pauses between attempts: they double up to a bound, with jitter, so that clients do not return all at once. */
final class Backoff {
    private static final long FIRST_NANOS = TimeUnit.MILLISECONDS.toNanos(8);
    private static final long LAST_NANOS = TimeUnit.MILLISECONDS.toNanos(256);

    private long pause = FIRST_NANOS;

    /** Returns how long to pause next, in nanoseconds. */
    long next() {
        long jittered = pause / 2 + ThreadLocalRandom.current().nextLong(pause);
        pause = Math.min(2 * pause, LAST_NANOS);
        return jittered;
    }
}
