package org.dkv.client;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import dkv.serverpb.DKVGrpc;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Calls of a node that answers at once, by gRPC's stub and by the client. The node is in this process and answers in
 * the caller's thread: what a network and other threads take would hide the difference.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 2)
@Fork(1)
public class OverheadBenchmark {
    private static final byte[] KEY = "a key of 20 bytes...".getBytes(StandardCharsets.UTF_8);
    private static final byte[] VALUE = new byte[100];

    private Server server;
    private ManagedChannel channel;
    private DKVGrpc.DKVBlockingStub stub;
    private DKVClient client;
    private DKVClient plain;

    /** Answers at once. */
    private static final class Echo extends DKVGrpc.DKVImplBase {
        private final Api.GetResponse found =
                Api.GetResponse.newBuilder().setValue(ByteString.copyFrom(VALUE)).setFound(true).build();

        @Override
        public void get(Api.GetRequest request, StreamObserver<Api.GetResponse> out) {
            out.onNext(found);
            out.onCompleted();
        }

        @Override
        public void put(Api.PutRequest request, StreamObserver<Api.PutResponse> out) {
            out.onNext(Api.PutResponse.getDefaultInstance());
            out.onCompleted();
        }
    }

    /** Starts the node and the clients. */
    @Setup
    public void start() throws IOException {
        String name = InProcessServerBuilder.generateName();
        server = InProcessServerBuilder.forName(name).directExecutor().addService(new Echo()).build().start();
        channel = connect(name);
        stub = DKVGrpc.newBlockingStub(channel);
        client = open(name, ConnectionOptions.builder().build());
        plain = open(name, ConnectionOptions.builder().idempotentRetries(false).build());
    }

    private static ManagedChannel connect(String name) {
        return InProcessChannelBuilder.forName(name).directExecutor().disableRetry().build();
    }

    private static DKVClient open(String name, ConnectionOptions options) {
        return new SimpleDKVClient(
                name, options, new Connections(options, address -> new Connection(connect(address), null)));
    }

    /** Stops them. */
    @TearDown
    public void stop() {
        client.close();
        plain.close();
        channel.shutdownNow();
        server.shutdownNow();
    }

    /** A read by the stub, with a deadline as everybody should set. */
    @Benchmark
    public byte[] getByStub() {
        return stub.withDeadlineAfter(5, TimeUnit.SECONDS)
                .get(Api.GetRequest.newBuilder().setKey(ByteString.copyFrom(KEY)).build()).getValue().toByteArray();
    }

    /** A read by the client. */
    @Benchmark
    public byte[] getByClient() {
        return client.get(Api.ReadConsistency.SEQUENTIAL, KEY);
    }

    /** A write by the stub. */
    @Benchmark
    public Api.PutResponse putByStub() {
        return stub.withDeadlineAfter(5, TimeUnit.SECONDS).put(Api.PutRequest.newBuilder()
                .setKey(ByteString.copyFrom(KEY)).setValue(ByteString.copyFrom(VALUE)).build());
    }

    /** A write by the client, with a request id. */
    @Benchmark
    public void putByClient() {
        client.put(KEY, VALUE);
    }

    /** A write by the client, without a request id. */
    @Benchmark
    public void putByClientWithoutId() {
        plain.put(KEY, VALUE);
    }
}
