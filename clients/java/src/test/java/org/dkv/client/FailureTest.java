package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.nio.channels.ClosedChannelException;
import org.junit.jupiter.api.Test;

class FailureTest {
    private static final Metadata.Key<byte[]> DETAILS =
            Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    private static Failure ofWrite(StatusRuntimeException e) {
        return Failure.of(e, true, true);
    }

    /** gRPC has no better name for a connection that breaks while a request is written. */
    @Test
    void aConnectionThatBrokeIsUnavailable() {
        Status closed = Status.UNKNOWN.withDescription("channel closed");
        Failure broken = ofWrite(closed.withCause(new ClosedChannelException()).asRuntimeException());
        assertTrue(broken.transientFailure());
        assertTrue(broken.mayBeApplied());
        assertEquals(Status.Code.UNAVAILABLE, broken.status().getCode());
        assertFalse(ofWrite(closed.asRuntimeException()).transientFailure(), "a server says so");
    }

    /** gRPC makes of a reset whatever its reason sounds like. */
    @Test
    void aStreamThatWasResetIsUnavailable() {
        for (Status status : new Status[] {
            Status.INTERNAL.withDescription("RST_STREAM closed stream. HTTP/2 error code: INTERNAL_ERROR"),
            Status.CANCELLED.withDescription("RST_STREAM closed stream. HTTP/2 error code: CANCEL"),
            Status.RESOURCE_EXHAUSTED.withDescription("RST_STREAM closed stream. HTTP/2 error code: ENHANCE_YOUR_CALM"),
            Status.RESOURCE_EXHAUSTED.withDescription("Abrupt GOAWAY closed sent stream. HTTP/2 error code: ENHANCE_YOUR_CALM")}) {
            Failure reset = ofWrite(status.asRuntimeException());
            assertTrue(reset.transientFailure(), status.toString());
            assertTrue(reset.mayBeApplied(), status.toString());
        }
    }

    /** What a node answers explains the outcome; what gRPC or a proxy answers in its place was never served. */
    @Test
    void rejectionsWithoutAnExplanationCameBeforeTheNode() {
        for (Status.Code code : new Status.Code[] {
            Status.Code.UNAUTHENTICATED, Status.Code.PERMISSION_DENIED, Status.Code.UNIMPLEMENTED,
            Status.Code.RESOURCE_EXHAUSTED}) {
            assertFalse(ofWrite(code.toStatus().asRuntimeException()).mayBeApplied(), code.name());
            assertTrue(ofWrite(FakeNode.error(code, "OUTCOME_UNKNOWN")).mayBeApplied(), code.name());
        }
        assertTrue(ofWrite(Status.INTERNAL.asRuntimeException()).mayBeApplied());
    }

    @Test
    void detailsThatCannotBeReadExplainNothing() {
        byte[] otherCode = com.google.rpc.Status.newBuilder().setCode(Status.Code.NOT_FOUND.value()).build().toByteArray();
        Any broken = Any.pack(ErrorInfo.getDefaultInstance()).toBuilder().setValue(ByteString.copyFromUtf8("\n\u007f")).build();
        byte[] inside = com.google.rpc.Status.newBuilder().setCode(Status.Code.UNAVAILABLE.value()).addDetails(broken)
                .build().toByteArray();
        for (byte[] details : new byte[][] {{}, {'x'}, otherCode, inside}) {
            Metadata trailers = new Metadata();
            trailers.put(DETAILS, details);
            StatusRuntimeException e = Status.UNAVAILABLE.asRuntimeException(trailers);
            Failure failure = ofWrite(e);
            assertTrue(failure.transientFailure());
            assertTrue(failure.mayBeApplied());
            assertNull(Failure.resumeKey(e));
        }
    }

    /** What runs an application's code on other machines sends its exceptions back. */
    @Test
    void exceptionsCanBeSerialized() throws Exception {
        StatusRuntimeException cause = FakeNode.error(Status.Code.UNAVAILABLE, "OUTCOME_UNKNOWN");
        for (Status.Code code : new Status.Code[] {Status.Code.UNAVAILABLE, Status.Code.PERMISSION_DENIED}) {
            Status status = code.toStatus().withDescription("gone").withCause(cause);
            DKVException thrown = DKVException.from(
                    status, DKVException.mirror(status), "Put", "Put \"k\"", new Object[0], DKVException.Outcome.UNKNOWN, cause);
            assertSame(cause, thrown.getCause());
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
                out.writeObject(thrown);
            }
            try (ObjectInputStream in = new ObjectInputStream(new ByteArrayInputStream(bytes.toByteArray()))) {
                DKVException read = (DKVException) in.readObject();
                assertSame(thrown.getClass(), read.getClass());
                assertEquals(thrown.getMessage(), read.getMessage());
                assertEquals(DKVException.Outcome.UNKNOWN, read.getOutcome());
            }
        }
    }
}
