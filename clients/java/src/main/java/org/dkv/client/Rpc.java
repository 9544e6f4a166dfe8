package org.dkv.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.MessageLite;
import dkv.serverpb.Api;
import dkv.serverpb.DKVGrpc;
import io.grpc.MethodDescriptor;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;

/** A remote procedure, with the properties that retries and errors need. */
final class Rpc<Q extends MessageLite, R> {
    static final Rpc<Api.PutRequest, Api.PutResponse> PUT = new Rpc<>(
            DKVGrpc.getPutMethod(), true, Api.PutResponse::getStatus, q -> List.of(q.getKey()), q -> null);
    static final Rpc<Api.MultiPutRequest, Api.PutResponse> MULTI_PUT = new Rpc<>(
            DKVGrpc.getMultiPutMethod(), true, Api.PutResponse::getStatus, Rpc::keysOf, q -> null);
    static final Rpc<Api.DeleteRequest, Api.DeleteResponse> DELETE = new Rpc<>(
            DKVGrpc.getDeleteMethod(), true, Api.DeleteResponse::getStatus, q -> List.of(q.getKey()), q -> null);
    static final Rpc<Api.CompareAndSetRequest, Api.CompareAndSetResponse> COMPARE_AND_SET = new Rpc<>(
            DKVGrpc.getCompareAndSetMethod(), true, Api.CompareAndSetResponse::getStatus, q -> List.of(q.getKey()),
            q -> null);
    static final Rpc<Api.GetRequest, Api.GetResponse> GET = new Rpc<>(
            DKVGrpc.getGetMethod(), false, Api.GetResponse::getStatus, q -> List.of(q.getKey()),
            Api.GetRequest::getReadConsistency);
    static final Rpc<Api.MultiGetRequest, Api.MultiGetResponse> MULTI_GET = new Rpc<>(
            DKVGrpc.getMultiGetMethod(), false, Api.MultiGetResponse::getStatus, Api.MultiGetRequest::getKeysList,
            Api.MultiGetRequest::getReadConsistency);
    static final Rpc<Api.IterateRequest, Api.IterateResponse> ITERATE = new Rpc<>(
            DKVGrpc.getIterateMethod(), false, Api.IterateResponse::getStatus,
            q -> List.of(q.getKeyPrefix(), q.getStartKey()), q -> null);

    private final MethodDescriptor<Q, R> method;
    private final boolean mutates;
    private final Function<R, Api.Status> status;
    private final Function<Q, List<ByteString>> keys;
    private final Function<Q, Api.ReadConsistency> consistency;

    private Rpc(
            MethodDescriptor<Q, R> method, boolean mutates, Function<R, Api.Status> status,
            Function<Q, List<ByteString>> keys, Function<Q, Api.ReadConsistency> consistency) {
        this.method = method;
        this.mutates = mutates;
        this.status = status;
        this.keys = keys;
        this.consistency = consistency;
    }

    private static List<ByteString> keysOf(Api.MultiPutRequest q) {
        return q.getPutRequestList().stream().map(Api.PutRequest::getKey)
                .collect(Collectors.toUnmodifiableList());
    }

    MethodDescriptor<Q, R> method() {
        return method;
    }

    String name() {
        return method.getBareMethodName();
    }

    boolean mutates() {
        return mutates;
    }

    Api.Status status(R response) {
        return status.apply(response);
    }

    /** Returns a description of a request for messages. */
    String describe(Q request) {
        List<ByteString> of = keys.apply(request);
        String more = of.size() > 1 ? " and " + (of.size() - 1) + " more" : "";
        String first = of.isEmpty() ? "" : " " + Bytes.quote(of.get(0));
        if (this == (Rpc<?, ?>) ITERATE) {
            return name() + " prefix" + first + " from " + Bytes.quote(of.get(1));
        }
        return name() + first + more;
    }

    /** Returns the consistency, if the request has one, and the keys of a request. */
    Object[] params(Q request) {
        Object[] of = keys.apply(request).stream().map(ByteString::toByteArray).toArray();
        Api.ReadConsistency level = consistency.apply(request);
        if (level == null) {
            return of;
        }
        Object[] out = new Object[of.length + 1];
        out[0] = level;
        System.arraycopy(of, 0, out, 1, of.length);
        return out;
    }
}
