package org.dkv.client;

import com.google.protobuf.ByteString;
import io.grpc.Status;
import java.util.concurrent.TimeUnit;

/** One addition to a counter by compare-and-set: the arithmetic, and the pauses after lost races. */
final class Counter {
    private final ByteString key;
    private final Backoff backoff = new Backoff();

    Counter(ByteString key) {
        this.key = key;
    }

    /** Adds to the counter in a value; an empty value counts as 0. */
    long add(ByteString value, long delta) {
        if (!value.isEmpty() && value.size() != Long.BYTES) {
            throw failed(Status.FAILED_PRECONDITION.withDescription(
                    "the key holds " + value.size() + " bytes, which is not a counter: that is 8 bytes, big endian"));
        }
        long now = value.isEmpty() ? 0 : Bytes.toLong(value);
        try {
            return Math.addExact(now, delta);
        } catch (ArithmeticException e) {
            throw failed(Status.FAILED_PRECONDITION.withDescription(
                    "the counter is " + now + "; adding " + delta + " would leave the range of long"));
        }
    }

    /** Pauses, unless there is no time left. */
    void yieldToOthers(long remainingNanos) {
        long pause = backoff.next();
        if (pause >= remainingNanos) {
            throw failed(Status.DEADLINE_EXCEEDED.withDescription("other writers changed the counter before each attempt"));
        }
        try {
            TimeUnit.NANOSECONDS.sleep(pause);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw failed(Status.CANCELLED.withDescription("the thread was interrupted"));
        }
    }

    private DKVException failed(Status status) {
        return DKVException.of(status, "CompareAndSet", "add to " + Bytes.quote(key), key.toByteArray());
    }
}
