package org.dkv.client;

import java.io.Closeable;
import java.util.Iterator;

/**
 * The pairs of an iteration, as they arrive from the server. Only one thread at a time may use it.
 *
 * <p>{@link #hasNext()} and {@link #next()} throw {@link DKVException} if the iteration breaks; the read timeout
 * bounds the wait for the next message, not the whole iteration. Close an iterator that is not read to its end, so that
 * the server releases its snapshot; at the end and after an error that happens by itself.
 */
public interface DKVEntryIterator extends Iterator<DKVEntry>, Closeable {
    /** Ends the iteration. It may be called again. */
    @Override
    void close();
}
