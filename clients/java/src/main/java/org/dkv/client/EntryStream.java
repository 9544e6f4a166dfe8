package org.dkv.client;

import dkv.serverpb.Api;
import io.grpc.StatusRuntimeException;
import java.lang.ref.Cleaner;
import java.util.ArrayDeque;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * The pairs that one node streams. A stream that is neither read to its end nor closed is closed when it is garbage
 * collected.
 */
final class EntryStream implements DKVEntryIterator {
    private static final Cleaner FORGOTTEN = Cleaner.create();

    private final Api.IterateRequest request;
    private final long patience;
    private final ServerStream<Api.IterateRequest, Api.IterateResponse> stream;
    private final ArrayDeque<DKVEntry> entries = new ArrayDeque<>();
    private boolean ended;

    /**
     * Starts an iteration and waits for its first pairs.
     *
     * @param timeout how long to wait for these, in nanoseconds
     * @param patience how long to wait for each of the next pairs, in nanoseconds
     */
    static EntryStream open(
            Caller caller, Supplier<Api.IterateRequest> request, Route route, long timeout, long patience) {
        return caller.retry(Rpc.ITERATE, request, true, route, timeout, (connection, options, repeat) -> {
            Api.IterateRequest q = request.get();
            EntryStream s =
                    new EntryStream(q, patience, new ServerStream<>(connection.calls(), Rpc.ITERATE.method(), q));
            s.fill(options.getDeadline().timeRemaining(TimeUnit.NANOSECONDS));
            return s;
        });
    }

    private EntryStream(
            Api.IterateRequest request, long patience, ServerStream<Api.IterateRequest, Api.IterateResponse> stream) {
        this.request = request;
        this.patience = patience;
        this.stream = stream;
        FORGOTTEN.register(this, stream::close); // the stream must not refer to this object
    }

    /** Waits for a pair or the end, at most this many nanoseconds for a message. */
    private void fill(long nanos) {
        while (entries.isEmpty() && !ended) {
            Api.IterateResponse r = stream.read(nanos);
            if (r == null) {
                ended = true;
            } else if (r.getPairsCount() > 0) {
                r.getPairsList().forEach(p -> entries.add(
                        new DKVEntry(r.getStatus(), p.getKey(), p.getValue(), p.getExpireTS())));
            } else if (!r.getKey().isEmpty() || r.getStatus().getCode() != 0) {
                entries.add(new DKVEntry(r.getStatus(), r.getKey(), r.getValue(), r.getExpireTS()));
            }
        }
    }

    @Override
    public boolean hasNext() {
        try {
            fill(patience);
        } catch (StatusRuntimeException e) {
            throw DKVException.from(
                    e.getStatus(), DKVException.mirror(e.getStatus()), Rpc.ITERATE.name(),
                    Rpc.ITERATE.describe(request), Rpc.ITERATE.params(request), DKVException.Outcome.NOT_APPLIED, e)
                    .resumableAt(Failure.resumeKey(e));
        }
        return !entries.isEmpty();
    }

    @Override
    public DKVEntry next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the iteration has no more keys");
        }
        return entries.poll();
    }

    @Override
    public void close() {
        ended = true;
        entries.clear();
        stream.close();
    }
}
