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
 * A call with a stream of responses. One thread reads it; any thread may close it. A message is requested from the
 * server only when the reader asks for it.
 */
final class ServerStream<Q, R> implements AutoCloseable {
    private final BlockingQueue<Event<R>> events = new LinkedBlockingQueue<>();
    private final ClientCall<Q, R> call;
    private volatile Event<R> end;

    /** A message or, if that is null, the end. */
    private static final class Event<R> {
        private final R message;
        private final Status end;
        /** The trailers, in which the server may explain the end. */
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
     * @throws StatusRuntimeException if the stream broke, in every later call too; if no message came in time, or the
     *     thread was interrupted, the stream is closed
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
                    "no message for " + TimeUnit.NANOSECONDS.toMillis(nanos) + " ms");
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            why = Status.CANCELLED.withDescription("the thread was interrupted");
        }
        call.cancel(why.getDescription(), null);
        return new Event<>(null, why, null);
    }

    /** Ends the stream; nothing can be read from it any more. */
    @Override
    public void close() {
        if (end == null) {
            end = new Event<>(null, Status.OK, null);
            call.cancel("the reader closed the stream", null);
        }
    }
}
