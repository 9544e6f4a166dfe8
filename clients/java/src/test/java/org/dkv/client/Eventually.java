package org.dkv.client;

import static org.junit.jupiter.api.Assertions.fail;

import java.time.Duration;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** Waits for what comes about by itself. */
final class Eventually {
    private static final Duration LIMIT = Duration.ofSeconds(30);

    private Eventually() {}

    static void holds(String what, BooleanSupplier condition) throws InterruptedException {
        holds(what, condition, () -> "");
    }

    /** Waits for a condition; detail describes the state if it does not come true. */
    static void holds(String what, BooleanSupplier condition, Supplier<String> detail) throws InterruptedException {
        long end = System.nanoTime() + LIMIT.toNanos();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > end) {
                fail(what + ": not within " + LIMIT.toSeconds() + " s " + detail.get());
            }
            Thread.sleep(10);
        }
    }
}
