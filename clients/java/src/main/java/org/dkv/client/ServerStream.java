package org.dkv.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * A call with many answers, read by one thread; any may close it. A message is asked for when it is wanted, and none
 * before.
 */
final class ServerStream<Q, R> implements AutoCloseable {
    private final BlockingQueue<Event<R>> events = new LinkedBlockingQueue<>();
    private final ClientCall<Q, R> call;
    private volatile Event<R> end;

    /** A message or, where that is null, the end. */
    private static final class Event<R> {
        private final R message;
        private final Status end;
        /** What came with the end: the server may explain it there. */
        private final Metadata trailers;

        Event(R message, Status end, Metadata trailers) {
            this.message = message;
            this.end = end;
            this.trailers = trailers;
        }
    }

    ServerStream(Channel channel, MethodDescriptor<Q, R> method, Q request) {
        this.call = channel.newCall(method, CallOptions.DEFAULT);
        call.start(new ClientCall.Listener<R>() {
            @Override
            public void onMessage(R message) {
                events.add(new Event<>(message, null, null));
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                events.add(new Event<>(null, status, trailers));
            }
        }, new Metadata());
        call.sendMessage(request);
        call.halfClose();
    }

    /**
     * Returns the next message, null at the end.
     *
     * @throws StatusRuntimeException where the stream broke, each time again; where nothing came in time, or the thread
     *     was interrupted, the stream is closed
     */
    R read(long timeoutNanos) {
        if (end == null) {
            call.request(1);
            Event<R> event = await(timeoutNanos);
            if (event.message != null) {
                return event.message;
            }
            end = event;
        }
        if (end.end.isOk()) {
            return null;
        }
        throw end.end.asRuntimeException(end.trailers);
    }

    private Event<R> await(long nanos) {
        Status why;
        try {
            Event<R> event = events.poll(nanos, TimeUnit.NANOSECONDS);
            if (event != null) {
                return event;
            }
            why = Status.DEADLINE_EXCEEDED.withDescription(
                    "nothing came for " + TimeUnit.NANOSECONDS.toMillis(nanos) + " ms");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            why = Status.CANCELLED.withDescription("the thread was interrupted");
        }
        call.cancel(why.getDescription(), null);
        return new Event<>(null, why, null);
    }

    /** Ends the stream; nothing can be read any more. */
    @Override
    public void close() {
        if (end == null) {
            end = new Event<>(null, Status.OK, null);
            call.cancel("the reader closed the stream", null);
        }
    }
}
