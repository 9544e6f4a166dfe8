package org.dkv.client;

import java.io.Closeable;
import java.util.Iterator;

/**
 * The pairs of an iteration, as they come from the server. One thread at a time may use it.
 *
 * <p>{@link #hasNext()} and {@link #next()} throw {@link DKVException} where the iteration breaks off; the read timeout
 * bounds the wait for what comes next, not the whole. Close an iterator that is not walked to its end, so that the
 * server lets go of its snapshot; at the end and after an error that happens by itself.
 */
public interface DKVEntryIterator extends Iterator<DKVEntry>, Closeable {
    /** Ends the iteration. It may be called again. */
    @Override
    void close();
}
