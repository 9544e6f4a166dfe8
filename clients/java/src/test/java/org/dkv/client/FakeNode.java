package org.dkv.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.Empty;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dkv.serverpb.Admin;
import dkv.serverpb.Api;
import dkv.serverpb.DKVGrpc;
import dkv.serverpb.DKVNodeGrpc;
import io.grpc.BindableService;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.InsecureServerCredentials;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** A node in this process that keeps keys in memory, remembers requests by their ids, and fails on request. */
final class FakeNode extends DKVGrpc.DKVImplBase implements AutoCloseable {
    /** Decides what becomes of a request. */
    interface Fault {
        /** Runs apply or not, and throws to fail the call. */
        Message handle(Message request, Supplier<Message> apply);
    }

    final List<Message> requests = new CopyOnWriteArrayList<>();
    final List<Metadata> headers = new CopyOnWriteArrayList<>();
    final List<String> authorities = new CopyOnWriteArrayList<>();
    private final TreeMap<ByteString, Api.KVPair> data;
    private final Map<Api.RequestID, Message> answers = new HashMap<>();
    private final Server server;
    private volatile Fault fault = (request, apply) -> apply.get();
    private volatile boolean batched = true;
    private volatile String cluster;
    private volatile boolean earlier;

    FakeNode() {
        this(0, InsecureServerCredentials.create());
    }

    FakeNode(int port, ServerCredentials credentials, BindableService... others) {
        this(new InetSocketAddress("127.0.0.1", port), credentials, new TreeMap<>(Bytes::compare), others);
    }

    /** Makes a node at one of Addresses. */
    FakeNode(InetSocketAddress address) {
        this(address, InsecureServerCredentials.create(), new TreeMap<>(Bytes::compare));
    }

    private FakeNode(
            InetSocketAddress address, ServerCredentials credentials, TreeMap<ByteString, Api.KVPair> data,
            BindableService... others) {
        this.data = data;
        NettyServerBuilder builder = NettyServerBuilder
                .forAddress(address, credentials)
                .maxInboundMessageSize(1 << 20)
                .addService(this)
                .addService(new NodeStatus())
                .intercept(new ServerInterceptor() {
                    @Override
                    public <Q, R> ServerCall.Listener<Q> interceptCall(
                            ServerCall<Q, R> call, Metadata h, ServerCallHandler<Q, R> next) {
                        headers.add(h);
                        authorities.add(call.getAuthority());
                        return next.startCall(call, h);
                    }
                });
        for (BindableService other : others) {
            builder.addService(other);
        }
        try {
            this.server = builder.build().start();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Answers what a node is, unless it is one of the earlier system. */
    private final class NodeStatus extends DKVNodeGrpc.DKVNodeImplBase {
        @Override
        public void getNodeStatus(Empty q, StreamObserver<Admin.NodeStatusResponse> out) {
            if (earlier) {
                out.onError(Status.UNIMPLEMENTED.asRuntimeException());
                return;
            }
            out.onNext(Admin.NodeStatusResponse.getDefaultInstance());
            out.onCompleted();
        }
    }

    /** Becomes a node of the earlier system, which knows no ids of requests. */
    void ofEarlierSystem() {
        earlier = true;
    }

    /** Makes another node with the same keys. */
    FakeNode replica() {
        return new FakeNode(new InetSocketAddress("127.0.0.1", 0), InsecureServerCredentials.create(), data);
    }

    String address() {
        return "127.0.0.1:" + server.getPort();
    }

    DKVNode node() {
        return new DKVNode("127.0.0.1", server.getPort());
    }

    void onRequest(Fault fault) {
        this.fault = fault;
    }

    /** Refuses requests that are for another cluster. */
    void ofCluster(String id) {
        cluster = id;
    }

    /** Returns how many keys there are. */
    int applied() {
        synchronized (data) {
            return data.size();
        }
    }

    private void checkCluster(Message request) {
        Object tag = request.getField(request.getDescriptorForType().findFieldByName("cluster"));
        if (cluster != null && (Long) tag != 0 && (Long) tag != KeyHash.cluster(cluster)) {
            throw error(Status.Code.FAILED_PRECONDITION, "OTHER_CLUSTER");
        }
    }

    /** Streams one pair a message, as servers do that know no batches. */
    void speakOldProtocol() {
        batched = false;
    }

    static StatusRuntimeException error(Status.Code code, String... reasons) {
        com.google.rpc.Status.Builder status =
                com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("fault " + String.join(" ", reasons));
        for (String reason : reasons) {
            status.addDetails(Any.pack(ErrorInfo.newBuilder().setDomain("dkv").setReason(reason).build()));
        }
        return StatusProto.toStatusRuntimeException(status.build());
    }

    /** Makes the error of a limit that says when to try again. */
    static StatusRuntimeException limited(long afterMillis) {
        Duration after = Duration.newBuilder().setSeconds(afterMillis / 1000)
                .setNanos((int) (afterMillis % 1000 * 1_000_000)).build();
        com.google.rpc.Status status = com.google.rpc.Status.newBuilder()
                .setCode(Status.Code.RESOURCE_EXHAUSTED.value()).setMessage("too many")
                .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(after).build()))
                .addDetails(Any.pack(ErrorInfo.newBuilder().setDomain("dkv").setReason("NOT_APPLIED").build())).build();
        return StatusProto.toStatusRuntimeException(status);
    }

    @Override
    public void close() {
        server.shutdownNow();
        try {
            if (!server.awaitTermination(20, TimeUnit.SECONDS)) {
                throw new IllegalStateException("the fake node does not stop");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    @SuppressWarnings("unchecked")
    private <R extends Message> void answer(
            Message request, Api.RequestID id, StreamObserver<R> out, Supplier<R> apply) {
        requests.add(request);
        try {
            checkCluster(request);
            Message r = fault.handle(request, () -> once(id, apply));
            out.onNext((R) r);
            out.onCompleted();
        } catch (StatusRuntimeException e) {
            out.onError(e);
        }
    }

    private Message once(Api.RequestID id, Supplier<? extends Message> apply) {
        synchronized (data) {
            if (id == null || id.getClientId() == 0 || earlier) {
                return apply.get();
            }
            Api.RequestID key = id.toBuilder().clearAcked().clearRepeat().build();
            Message known = answers.get(key);
            if (known == null) {
                known = apply.get();
                answers.put(key, known);
            }
            return known;
        }
    }

    private static Api.Status ok() {
        return Api.Status.getDefaultInstance();
    }

    private Api.KVPair find(ByteString key) {
        Api.KVPair pair = data.get(key);
        boolean expired = pair != null && pair.getExpireTS() != 0
                && Long.compareUnsigned(pair.getExpireTS(), System.currentTimeMillis() / 1000) <= 0;
        return expired ? null : pair;
    }

    void set(ByteString key, ByteString value, long expireTS) {
        data.put(key, Api.KVPair.newBuilder().setKey(key).setValue(value).setExpireTS(expireTS).build());
    }

    @Override
    public void put(Api.PutRequest q, StreamObserver<Api.PutResponse> out) {
        answer(q, q.getRequestId(), out, () -> {
            set(q.getKey(), q.getValue(), q.getExpireTS());
            return Api.PutResponse.newBuilder().setStatus(ok()).build();
        });
    }

    @Override
    public void multiPut(Api.MultiPutRequest q, StreamObserver<Api.PutResponse> out) {
        answer(q, q.getRequestId(), out, () -> {
            q.getPutRequestList().forEach(p -> set(p.getKey(), p.getValue(), p.getExpireTS()));
            return Api.PutResponse.newBuilder().setStatus(ok()).build();
        });
    }

    @Override
    public void delete(Api.DeleteRequest q, StreamObserver<Api.DeleteResponse> out) {
        answer(q, q.getRequestId(), out, () -> {
            data.remove(q.getKey());
            return Api.DeleteResponse.newBuilder().setStatus(ok()).build();
        });
    }

    @Override
    public void compareAndSet(Api.CompareAndSetRequest q, StreamObserver<Api.CompareAndSetResponse> out) {
        answer(q, q.getRequestId(), out, () -> {
            Api.KVPair now = find(q.getKey());
            boolean equal = q.getOldValue().equals(now == null ? ByteString.EMPTY : now.getValue());
            if (equal) {
                set(q.getKey(), q.getNewValue(), q.getExpireTS());
            }
            return Api.CompareAndSetResponse.newBuilder().setStatus(ok()).setUpdated(equal).build();
        });
    }

    @Override
    public void get(Api.GetRequest q, StreamObserver<Api.GetResponse> out) {
        answer(q, null, out, () -> {
            Api.KVPair pair = find(q.getKey());
            Api.GetResponse.Builder r = Api.GetResponse.newBuilder().setStatus(ok());
            return pair == null ? r.build()
                    : r.setValue(pair.getValue()).setFound(true).setExpireTS(pair.getExpireTS()).build();
        });
    }

    @Override
    public void multiGet(Api.MultiGetRequest q, StreamObserver<Api.MultiGetResponse> out) {
        answer(q, null, out, () -> {
            Api.MultiGetResponse.Builder r = Api.MultiGetResponse.newBuilder().setStatus(ok());
            q.getKeysList().forEach(key -> {
                if (find(key) != null) {
                    r.addKeyValues(find(key));
                }
            });
            return r.build();
        });
    }

    /** The key before which iterations are ended as if nothing of them had been taken; null for none. */
    volatile String stallAt;

    private static StatusRuntimeException stalled(ByteString at) {
        com.google.rpc.ErrorInfo info = com.google.rpc.ErrorInfo.newBuilder().setDomain("dkv").setReason("STREAM_STALLED")
                .putMetadata("startKey", java.util.Base64.getEncoder().encodeToString(at.toByteArray())).build();
        return io.grpc.protobuf.StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
                .setCode(io.grpc.Status.Code.ABORTED.value()).setMessage("nothing of the stream was taken")
                .addDetails(com.google.protobuf.Any.pack(info)).build());
    }

    @Override
    public void iterate(Api.IterateRequest q, StreamObserver<Api.IterateResponse> out) {
        requests.add(q);
        List<Api.KVPair> pairs = new ArrayList<>();
        synchronized (data) {
            data.tailMap(q.getStartKey().isEmpty() ? q.getKeyPrefix() : q.getStartKey()).values().stream()
                    .filter(p -> p.getKey().startsWith(q.getKeyPrefix())).forEach(pairs::add);
        }
        try {
            checkCluster(q);
            fault.handle(q, () -> q);
            for (int i = 0; i < pairs.size() && stallAt != null; i++) {
                if (pairs.get(i).getKey().toStringUtf8().equals(stallAt)) {
                    throw stalled(pairs.get(i).getKey());
                }
                out.onNext(Api.IterateResponse.newBuilder().setStatus(ok()).addPairs(pairs.get(i)).build());
            }
            if (batched && q.getBatched()) {
                for (int i = 0; i < pairs.size(); i += 3) {
                    out.onNext(Api.IterateResponse.newBuilder().setStatus(ok())
                            .addAllPairs(pairs.subList(i, Math.min(i + 3, pairs.size()))).build());
                }
            } else {
                pairs.forEach(p -> out.onNext(Api.IterateResponse.newBuilder()
                        .setStatus(ok()).setKey(p.getKey()).setValue(p.getValue()).build()));
            }
            out.onCompleted();
        } catch (StatusRuntimeException e) {
            out.onError(e);
        }
    }
}
