package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;

import com.google.protobuf.ByteString;
import com.google.protobuf.MessageLite;
import dkv.serverpb.Api;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;

/** What all clients share: everything except the choice of the nodes for a call. */
abstract class RoutedClient implements DKVClient {
    private final Connections connections;
    private final Caller caller;
    private final RequestIds ids;
    private final long readTimeout;
    private final long writeTimeout;
    private final Api.AckLevel ack;
    private final Consumer<WriteAnswer> answers;

    RoutedClient(Connections connections, ConnectionOptions options) {
        this.connections = connections;
        this.caller = new Caller(connections, new CallMetrics(options), Caller.REPEAT_WITHIN_NANOS);
        this.ids = options.isIdempotentRetries() ? new RequestIds() : null;
        this.readTimeout = TimeUnit.MILLISECONDS.toNanos(options.getReadTimeout());
        this.writeTimeout = TimeUnit.MILLISECONDS.toNanos(options.getWriteTimeout());
        this.ack = options.getAck();
        this.answers = options.getAnswers();
    }

    /** Returns the route to the nodes that serve a key's writes and linearizable reads. */
    abstract Route toOwner(ByteString key);

    /**
     * Returns the cluster hash that requests for a key carry, so that other clusters reject them; 0 accepts any. It is
     * asked for each attempt: a call may begin before the cluster is known.
     */
    long clusterOf(ByteString key) {
        return 0;
    }

    /** As {@link #clusterOf} for the first vBucket. */
    long clusterOfFirst() {
        return 0;
    }

    /** Returns the route to the nodes that serve sequential reads of a key. */
    abstract Route toReplica(ByteString key);

    /**
     * Returns the route to the nodes that can write several keys at once.
     *
     * @throws UnsupportedOperationException if there are none
     */
    abstract Route toOwnerOfAll(List<ByteString> keys);

    /** Reads several keys, by one or several calls of {@link #multiGetVia}. */
    abstract List<Api.KVPair> multiGet(Api.ReadConsistency consistency, List<ByteString> keys);

    /** Iterates over keys, by one or several calls of {@link #iterateVia}. */
    abstract DKVEntryIterator iterate(Api.IterateRequest request);

    final Connections connections() {
        return connections;
    }

    @Override
    public final void put(String key, String value) {
        put(key, value, 0);
    }

    @Override
    public final void put(String key, String value, long expiryTS) {
        put(Bytes.key(key), Bytes.of(value, "value"), expiryTS);
    }

    @Override
    public final void put(byte[] key, byte[] value) {
        put(key, value, 0);
    }

    @Override
    public final void put(byte[] key, byte[] value, long expiryTS) {
        put(Bytes.key(key), Bytes.of(value, "value"), expiryTS);
    }

    private void put(ByteString key, ByteString value, long expiryTS) {
        Api.PutRequest.Builder request = putRequest(key, value, expiryTS).setAck(ack);
        write(Rpc.PUT, toOwner(key),
                id -> (id == null ? request : request.setRequestId(id)).setCluster(clusterOf(key)).build());
    }

    private static Api.PutRequest.Builder putRequest(ByteString key, ByteString value, long expiryTS) {
        return Api.PutRequest.newBuilder().setKey(key).setValue(value).setExpireTS(expiry(expiryTS));
    }

    private static long expiry(long expiryTS) {
        if (expiryTS < 0) {
            throw new IllegalArgumentException(
                    "expiryTS is " + expiryTS + "; it must be seconds since the epoch, or 0 for never");
        }
        return expiryTS;
    }

    @Override
    public final void put(KV.Strings... pairs) {
        multiPut(pairs, p -> putRequest(Bytes.key(p.getKey()), Bytes.of(p.getValue(), "value"), p.getExpiryTS()));
    }

    @Override
    public final void put(KV.Bytes... pairs) {
        multiPut(pairs, p -> putRequest(Bytes.key(p.getKey()), Bytes.of(p.getValue(), "value"), p.getExpiryTS()));
    }

    private <P extends KV<?, ?>> void multiPut(P[] pairs, Function<P, Api.PutRequest.Builder> convert) {
        if (pairs == null || pairs.length == 0) {
            throw new IllegalArgumentException("there are no pairs to put");
        }
        Api.MultiPutRequest.Builder request = Api.MultiPutRequest.newBuilder();
        List<ByteString> keys = new ArrayList<>(pairs.length);
        for (P pair : pairs) {
            if (pair == null) {
                throw new IllegalArgumentException("a pair is null");
            }
            Api.PutRequest put = convert.apply(pair).build();
            request.addPutRequest(put);
            keys.add(put.getKey());
        }
        request.setAck(ack);
        write(Rpc.MULTI_PUT, toOwnerOfAll(keys),
                id -> (id == null ? request : request.setRequestId(id)).setCluster(clusterOf(keys.get(0))).build());
    }

    @Override
    public final void delete(String key) {
        delete(Bytes.key(key));
    }

    @Override
    public final void delete(byte[] key) {
        delete(Bytes.key(key));
    }

    private void delete(ByteString key) {
        Api.DeleteRequest.Builder request = Api.DeleteRequest.newBuilder().setKey(key).setAck(ack);
        write(Rpc.DELETE, toOwner(key),
                id -> (id == null ? request : request.setRequestId(id)).setCluster(clusterOf(key)).build());
    }

    @Override
    public final boolean compareAndSet(byte[] key, byte[] expect, byte[] update) {
        return compareAndSet(key, expect, update, 0);
    }

    @Override
    public final boolean compareAndSet(byte[] key, byte[] expect, byte[] update, long expiryTS) {
        return compareAndSet(
                Bytes.key(key), Bytes.ofNullable(expect, "expect"), Bytes.of(update, "update"), expiry(expiryTS), writeTimeout);
    }

    @Override
    public final boolean compareAndSet(String key, String expect, String update) {
        return compareAndSet(key, expect, update, 0);
    }

    @Override
    public final boolean compareAndSet(String key, String expect, String update, long expiryTS) {
        return compareAndSet(
                Bytes.key(key), Bytes.ofNullable(expect, "expect"), Bytes.of(update, "update"), expiry(expiryTS), writeTimeout);
    }

    /** An expiry that was read may be negative here: times are unsigned in the protocol. */
    private boolean compareAndSet(ByteString key, ByteString expect, ByteString update, long expiryTS, long timeout) {
        Api.CompareAndSetRequest.Builder request = Api.CompareAndSetRequest.newBuilder()
                .setKey(key).setOldValue(expect).setNewValue(update).setExpireTS(expiryTS).setAck(ack);
        return write(Rpc.COMPARE_AND_SET, toOwner(key), timeout,
                id -> (id == null ? request : request.setRequestId(id)).setCluster(clusterOf(key)).build()).getUpdated();
    }

    @Override
    public final long addAndGet(byte[] key, long delta) {
        return addAndGet(key, delta, 0);
    }

    @Override
    public final long addAndGet(byte[] key, long delta, long expiryTS) {
        ByteString k = Bytes.key(key);
        expiry(expiryTS);
        long start = System.nanoTime();
        Counter counter = new Counter(k);
        while (true) {
            long remaining = writeTimeout - (System.nanoTime() - start);
            Api.GetResponse now = get(LINEARIZABLE, k, remaining);
            long sum = counter.add(now.getValue(), delta);
            long expires = expiryTS != 0 ? expiryTS : now.getExpireTS();
            remaining = writeTimeout - (System.nanoTime() - start);
            if (compareAndSet(k, now.getValue(), Bytes.ofLong(sum), expires, remaining)) {
                return sum;
            }
            counter.yieldToOthers(writeTimeout - (System.nanoTime() - start));
        }
    }

    /** Makes a write, whose id is the same in all attempts. */
    private <Q extends MessageLite, R> R write(Rpc<Q, R> rpc, Route route, Function<Api.RequestID, Q> request) {
        return write(rpc, route, writeTimeout, request);
    }

    private <Q extends MessageLite, R> R write(
            Rpc<Q, R> rpc, Route route, long timeout, Function<Api.RequestID, Q> request) {
        R response = attempt(rpc, route, timeout, request);
        if (answers != null) {
            answers.accept(WriteAnswer.of(response));
        }
        return response;
    }

    private <Q extends MessageLite, R> R attempt(
            Rpc<Q, R> rpc, Route route, long timeout, Function<Api.RequestID, Q> request) {
        if (ids == null) {
            return caller.call(rpc, () -> request.apply(null), null, route, timeout);
        }
        RequestIds.Ticket ticket = ids.begin();
        try {
            return caller.call(
                    rpc, () -> request.apply(ticket.id()), () -> request.apply(ticket.repeatedId()), route, timeout);
        } finally {
            ids.end(ticket);
        }
    }

    @Override
    public final String get(Api.ReadConsistency consistency, String key) {
        ByteString k = Bytes.key(key);
        return Bytes.toString(
                get(level(consistency), k, readTimeout).getValue(), "the value of key " + Bytes.quote(k),
                "get(ReadConsistency, byte[])");
    }

    @Override
    public final byte[] get(Api.ReadConsistency consistency, byte[] key) {
        return get(level(consistency), Bytes.key(key), readTimeout).getValue().toByteArray();
    }

    private Api.GetResponse get(Api.ReadConsistency consistency, ByteString key, long timeout) {
        Api.GetRequest.Builder builder = Api.GetRequest.newBuilder().setKey(key).setReadConsistency(consistency);
        Supplier<Api.GetRequest> request = () -> builder.setCluster(clusterOf(key)).build();
        Route route = consistency == LINEARIZABLE ? toOwner(key) : toReplica(key);
        return caller.call(Rpc.GET, request, request, route, timeout);
    }

    private static Api.ReadConsistency level(Api.ReadConsistency consistency) {
        if (consistency == null || consistency == Api.ReadConsistency.UNRECOGNIZED) {
            throw new IllegalArgumentException("consistency is " + consistency + "; use SEQUENTIAL or LINEARIZABLE");
        }
        return consistency;
    }

    @Override
    public final KV.Strings[] multiGet(Api.ReadConsistency consistency, String[] keys) {
        return multiGet(level(consistency), Bytes.keys(keys, Bytes::key)).stream()
                .map(p -> new KV.Strings(
                        Bytes.toString(p.getKey(), "a key", "multiGet(ReadConsistency, byte[][])"),
                        Bytes.toString(
                                p.getValue(), "the value of key " + Bytes.quote(p.getKey()),
                                "multiGet(ReadConsistency, byte[][])"),
                        p.getExpireTS()))
                .toArray(KV.Strings[]::new);
    }

    @Override
    public final KV.Bytes[] multiGet(Api.ReadConsistency consistency, byte[][] keys) {
        return multiGet(level(consistency), Bytes.keys(keys, Bytes::key)).stream()
                .map(p -> new KV.Bytes(p.getKey().toByteArray(), p.getValue().toByteArray(), p.getExpireTS()))
                .toArray(KV.Bytes[]::new);
    }

    /** Returns how much of the read timeout is left for a call that began then, in nanoseconds. */
    final long timeToReadSince(long begun) {
        return readTimeout - (System.nanoTime() - begun);
    }

    /** Reads several keys by one call. */
    final List<Api.KVPair> multiGetVia(Route route, Api.ReadConsistency consistency, List<ByteString> keys) {
        return multiGetVia(route, consistency, keys, readTimeout);
    }

    /** As {@link #multiGetVia(Route, Api.ReadConsistency, List)}, within a part of the read timeout. */
    final List<Api.KVPair> multiGetVia(
            Route route, Api.ReadConsistency consistency, List<ByteString> keys, long timeout) {
        Api.MultiGetRequest.Builder builder =
                Api.MultiGetRequest.newBuilder().addAllKeys(keys).setReadConsistency(consistency);
        Supplier<Api.MultiGetRequest> request =
                () -> builder.setCluster(keys.isEmpty() ? 0 : clusterOf(keys.get(0))).build();
        return caller.call(Rpc.MULTI_GET, request, request, route, timeout).getKeyValuesList();
    }

    @Override
    public final DKVEntryIterator iterate(String startKey) {
        return iterate(startKey, null);
    }

    @Override
    public final DKVEntryIterator iterate(byte[] startKey) {
        return iterate(startKey, null);
    }

    @Override
    public final DKVEntryIterator iterate(String startKey, String keyPrefix) {
        return iterate(Bytes.ofNullable(startKey, "startKey"), Bytes.ofNullable(keyPrefix, "keyPrefix"));
    }

    @Override
    public final DKVEntryIterator iterate(byte[] startKey, byte[] keyPrefix) {
        return iterate(Bytes.ofNullable(startKey, "startKey"), Bytes.ofNullable(keyPrefix, "keyPrefix"));
    }

    private DKVEntryIterator iterate(ByteString startKey, ByteString keyPrefix) {
        if (!startKey.isEmpty() && !startKey.startsWith(keyPrefix)) {
            throw new IllegalArgumentException(
                    "startKey " + Bytes.quote(startKey) + " does not begin with keyPrefix " + Bytes.quote(keyPrefix));
        }
        return iterate(Api.IterateRequest.newBuilder()
                .setStartKey(startKey).setKeyPrefix(keyPrefix).setBatched(true).build());
    }

    /** Iterates over the keys of one node. Until that sends something, a failure is retried at another one. */
    final DKVEntryIterator iterateVia(Route route, Api.IterateRequest request) {
        return iterateVia(route, request, readTimeout);
    }

    /** As {@link #iterateVia(Route, Api.IterateRequest)}; the first pairs must come within a part of the read timeout. */
    final DKVEntryIterator iterateVia(Route route, Api.IterateRequest request, long timeout) {
        return EntryStream.open(
                caller, () -> request.toBuilder().setCluster(clusterOfFirst()).build(), route, timeout, readTimeout);
    }

    @Override
    public void close() {
        connections.close();
    }
}
