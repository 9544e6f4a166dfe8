package org.dkv.client;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.PriorityQueue;

/** Merges several iterations into one, in the order of their keys. Each reads a snapshot of its own. */
final class MergedEntries implements DKVEntryIterator {
    private final List<DKVEntryIterator> sources = new ArrayList<>();
    private final PriorityQueue<Head> heads =
            new PriorityQueue<>(Comparator.comparing(h -> h.entry.key(), Bytes::compare));
    private DKVException failure;

    private static final class Head {
        private final DKVEntryIterator source;
        private final DKVEntry entry;

        Head(DKVEntryIterator source) {
            this.source = source;
            this.entry = source.next();
        }
    }

    /** Adds an iteration, before the first use. It is closed with this one. */
    void add(DKVEntryIterator source) {
        sources.add(source);
        advance(source, null);
    }

    /** Reads the next pair of a source; pending is the pair that is returned after that, if there is one. */
    private void advance(DKVEntryIterator source, DKVEntry pending) {
        try {
            if (source.hasNext()) {
                heads.add(new Head(source));
            }
        } catch (DKVException e) {
            close(); // the rest would have gaps
            failure = e;
            if (e.getResumeKey() != null) { // it is one source's; the others have not got as far
                e.resumableAt(pending == null ? null : pending.key().toByteArray());
            }
            throw e;
        }
    }

    @Override
    public boolean hasNext() {
        if (failure != null) {
            throw failure; // an end would look like the end of the keys
        }
        return !heads.isEmpty();
    }

    @Override
    public DKVEntry next() {
        Head least = hasNext() ? heads.poll() : null;
        if (least == null) {
            throw new NoSuchElementException("the iteration has no more keys");
        }
        advance(least.source, least.entry);
        return least.entry;
    }

    @Override
    public void close() {
        failure = null;
        heads.clear();
        sources.forEach(DKVEntryIterator::close);
    }
}
