package org.dkv.client;

import static dkv.serverpb.Api.ReadConsistency.LINEARIZABLE;
import static dkv.serverpb.Api.ReadConsistency.SEQUENTIAL;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dkv.serverpb.Api;
import io.grpc.Status;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class SimpleDKVClientTest {
    private static final byte[] NOT_UTF8 = {(byte) 0xC3, 0x28, 0, (byte) 0xFF};

    private FakeNode node;
    private DKVClient client;

    @BeforeEach
    void start() {
        node = new FakeNode();
        client = new SimpleDKVClient(node.address(), ConnectionOptions.builder().requestTimeout(20_000).build());
    }

    @AfterEach
    void stop() {
        client.close();
        node.close();
    }

    private static byte[] utf8(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    @Test
    void putsAndGets() {
        client.put("key", "välue");
        assertEquals("välue", client.get(LINEARIZABLE, "key"));
        assertArrayEquals(utf8("välue"), client.get(SEQUENTIAL, utf8("key")));
        assertEquals("", client.get(SEQUENTIAL, "missing"));
        assertArrayEquals(new byte[0], client.get(SEQUENTIAL, utf8("missing")));
    }

    @Test
    void asksWithTheConsistencyThatItIsGiven() {
        client.get(LINEARIZABLE, "a");
        client.get(SEQUENTIAL, "a");
        client.multiGet(LINEARIZABLE, new String[] {"a"});
        assertEquals(LINEARIZABLE, ((Api.GetRequest) node.requests.get(0)).getReadConsistency());
        assertEquals(SEQUENTIAL, ((Api.GetRequest) node.requests.get(1)).getReadConsistency());
        assertEquals(LINEARIZABLE, ((Api.MultiGetRequest) node.requests.get(2)).getReadConsistency());
    }

    @Test
    void keepsAnyBytes() {
        client.put(NOT_UTF8, NOT_UTF8);
        assertArrayEquals(NOT_UTF8, client.get(LINEARIZABLE, NOT_UTF8));
    }

    @Test
    void doesNotDecodeWhatIsNoUtf8() {
        client.put(utf8("key"), NOT_UTF8);
        DKVException e = assertThrows(DKVException.class, () -> client.get(LINEARIZABLE, "key"));
        assertEquals(Status.Code.FAILED_PRECONDITION, e.getGrpcStatus().getCode());
        assertTrue(e.getMessage().contains("get(ReadConsistency, byte[])"), e.getMessage());
        assertThrows(DKVException.class, () -> client.multiGet(LINEARIZABLE, new String[] {"key"}));
        assertThrows(DKVException.class, () -> client.iterate("key").next().getValueAsString());
    }

    @Test
    void expires() {
        long now = System.currentTimeMillis() / 1000;
        client.put("later", "v", now + 1000);
        client.put("past", "v", now - 2);
        assertEquals("v", client.get(LINEARIZABLE, "later"));
        assertEquals("", client.get(LINEARIZABLE, "past"));
        assertTrue(client.compareAndSet(utf8("past"), null, utf8("new"), now + 7));
        assertEquals(now + 7, client.multiGet(LINEARIZABLE, new String[] {"past"})[0].getExpiryTS());
    }

    @Test
    void putsManyAtOnce() {
        client.put(new KV.Strings("b", "2"), new KV.Strings("a", "1", 4_000_000_000L));
        client.put(new KV.Bytes(utf8("c"), utf8("3")), new KV.Bytes(NOT_UTF8, utf8("4")));
        KV.Strings[] found = client.multiGet(LINEARIZABLE, new String[] {"c", "none", "a", "b"});
        assertEquals(List.of("c=3", "a=1", "b=2"),
                Arrays.stream(found).map(p -> p.getKey() + "=" + p.getValue()).toList());
        assertEquals(4_000_000_000L, found[1].getExpiryTS());
        KV.Bytes[] bytes = client.multiGet(SEQUENTIAL, new byte[][] {NOT_UTF8});
        assertArrayEquals(NOT_UTF8, bytes[0].getKey());
        assertArrayEquals(utf8("4"), bytes[0].getValue());
        Api.MultiPutRequest sent = (Api.MultiPutRequest) node.requests.get(0);
        assertTrue(sent.hasRequestId());
        assertFalse(sent.getPutRequest(0).hasRequestId()); // servers refuse a second one
    }

    @Test
    void deletes() {
        client.put("key", "value");
        client.delete("key");
        client.delete(utf8("never there"));
        assertEquals("", client.get(LINEARIZABLE, "key"));
    }

    @Test
    void comparesAndSets() {
        assertTrue(client.compareAndSet(utf8("k"), null, utf8("1")));
        assertFalse(client.compareAndSet(utf8("k"), null, utf8("2")));
        assertFalse(client.compareAndSet("k", "0", "2"));
        assertTrue(client.compareAndSet("k", "1", "2"));
        assertEquals("2", client.get(LINEARIZABLE, "k"));
    }

    @Test
    void counts() {
        byte[] key = utf8("counter");
        assertEquals(1, client.incrementAndGet(key));
        assertEquals(42, client.addAndGet(key, 41));
        assertEquals(41, client.decrementAndGet(key));
        assertEquals(-1, client.addAndGet(key, -42));
        assertArrayEquals(new byte[] {-1, -1, -1, -1, -1, -1, -1, -1}, client.get(LINEARIZABLE, key));
    }

    @Test
    void countsFromAnEmptyValue() {
        client.put("counter", "");
        assertEquals(5, client.addAndGet(utf8("counter"), 5));
    }

    @Test
    void countersKeepTheirExpiryUnlessTheyGetAnother() {
        byte[] key = utf8("counter");
        client.addAndGet(key, 1, 4_000_000_000L);
        client.incrementAndGet(key);
        assertEquals(4_000_000_000L, client.multiGet(LINEARIZABLE, new byte[][] {key})[0].getExpiryTS());
        client.decrementAndGet(key, 4_000_000_001L);
        assertEquals(4_000_000_001L, client.multiGet(LINEARIZABLE, new byte[][] {key})[0].getExpiryTS());
    }

    /** Times are unsigned on the wire; other clients may have written one beyond Long.MAX_VALUE. */
    @Test
    void countersKeepAnExpiryThatIsNegativeHere() {
        byte[] key = utf8("counter");
        node.set(ByteString.copyFrom(key), ByteString.copyFrom(new byte[] {0, 0, 0, 0, 0, 0, 0, 1}), -2);
        assertEquals(2, client.incrementAndGet(key));
        assertEquals(-2, client.multiGet(LINEARIZABLE, new byte[][] {key})[0].getExpiryTS());
    }

    @Test
    void refusesToCountWhatIsNoCounter() {
        client.put("text", "hello");
        DKVException e = assertThrows(DKVException.class, () -> client.incrementAndGet(utf8("text")));
        assertTrue(e.getMessage().contains("5 bytes"), e.getMessage());
        client.addAndGet(utf8("full"), Long.MAX_VALUE);
        e = assertThrows(DKVException.class, () -> client.incrementAndGet(utf8("full")));
        assertTrue(e.getMessage().contains("range of long"), e.getMessage());
    }

    private static List<String> walk(Iterator<DKVEntry> entries) {
        List<String> out = new ArrayList<>();
        entries.forEachRemaining(e -> {
            e.checkStatus();
            out.add(e.getKeyAsString() + "=" + e.getValueAsString());
        });
        return out;
    }

    private void putLetters() {
        for (String s : List.of("d", "b1", "b3", "a", "b2", "c", "b0")) {
            client.put(s, s.toUpperCase());
        }
    }

    @Test
    void iterates() {
        putLetters();
        assertEquals(List.of("a=A", "b0=B0", "b1=B1", "b2=B2", "b3=B3", "c=C", "d=D"), walk(client.iterate("")));
        assertEquals(List.of("c=C", "d=D"), walk(client.iterate(utf8("c"))));
        assertEquals(List.of("b1=B1", "b2=B2", "b3=B3"), walk(client.iterate("b1", "b")));
        assertEquals(List.of("b0=B0", "b1=B1", "b2=B2", "b3=B3"), walk(client.iterate(null, utf8("b"))));
        assertEquals(List.of(), walk(client.iterate("x")));
    }

    @Test
    void iteratesServersThatKnowNoBatches() {
        node.speakOldProtocol();
        putLetters();
        assertEquals(List.of("b1=B1", "b2=B2", "b3=B3"), walk(client.iterate("b1", "b")));
    }

    @Test
    void stalledIterationsSayWhereToResume() {
        putLetters();
        node.stallAt = "b2";
        List<String> found = new ArrayList<>();
        DKVEntryIterator it = client.iterate("");
        DKVException e = assertThrows(DKVException.class, () -> it.forEachRemaining(p -> found.add(p.getKeyAsString())));
        assertEquals("b2", new String(e.getResumeKey(), StandardCharsets.UTF_8));
        node.stallAt = null;
        client.iterate(e.getResumeKey()).forEachRemaining(p -> found.add(p.getKeyAsString()));
        assertEquals(List.of("a", "b0", "b1", "b2", "b3", "c", "d"), found);
        node.close();
        assertNull(assertThrows(DKVException.class, () -> client.iterate("").hasNext()).getResumeKey());
    }

    /** Servers of the earlier system have no other way to report a failed iteration. */
    @Test
    void entriesThatReportAFailureAreNoKeys() {
        Api.Status failed = Api.Status.newBuilder().setCode(-1).setMessage("the disk fails").build();
        DKVEntry entry = new DKVEntry(failed, ByteString.EMPTY, ByteString.EMPTY, 0);
        for (Runnable use : List.<Runnable>of(entry::checkStatus, entry::getKeyAsString, entry::getKeyAsByteArray,
                entry::getValueAsString, entry::getValueAsByteArray)) {
            DKVException e = assertThrows(DKVException.class, use::run);
            assertTrue(e.getMessage().contains("the disk fails"), e.getMessage());
        }
    }

    /** The error of a stalled iteration contains a key, which may be much larger than what gRPC expects of errors. */
    @Test
    void stalledIterationsMayResumeAtLargeKeys() {
        String large = "k".repeat(64 << 10);
        client.put("a", "1");
        client.put(large, "2");
        node.stallAt = large;
        DKVException e = assertThrows(DKVException.class, () -> client.iterate("").forEachRemaining(p -> { }));
        assertEquals(large, new String(e.getResumeKey(), StandardCharsets.UTF_8));
    }

    @Test
    void iterationsEndForGood() {
        putLetters();
        DKVEntryIterator it = client.iterate("d");
        assertEquals("d", it.next().getKeyAsString());
        assertFalse(it.hasNext());
        assertThrows(NoSuchElementException.class, it::next);
        DKVEntryIterator left = client.iterate("");
        left.next();
        left.close();
        left.close();
        assertFalse(left.hasNext());
    }

    @Test
    void refusesArgumentsThatCanNeverBeRight() {
        List<Runnable> calls = List.of(
                () -> client.put((String) null, "v"),
                () -> client.put("", "v"),
                () -> client.put("k", (String) null),
                () -> client.put("k", "v", -1),
                () -> client.put(new KV.Strings[0]),
                () -> client.put((KV.Bytes) null),
                () -> client.get(null, "k"),
                () -> client.get(Api.ReadConsistency.UNRECOGNIZED, "k"),
                () -> client.multiGet(LINEARIZABLE, new String[0]),
                () -> client.multiGet(LINEARIZABLE, new byte[][] {null}),
                () -> client.compareAndSet(utf8("k"), null, null),
                () -> client.addAndGet(null, 1),
                () -> client.addAndGet(utf8("k"), 1, -5),
                () -> client.delete(new byte[0]),
                () -> client.iterate("a", "b"),
                () -> new SimpleDKVClient(" , ", null),
                () -> new SimpleDKVClient("localhost:8080,no host:8080", null),
                () -> new SimpleDKVClient("localhost", null),
                () -> new SimpleDKVClient("localhost:99999", null),
                () -> new SimpleDKVClient("host", 0, null),
                () -> new SimpleDKVClient("", 80, null));
        for (int i = 0; i < calls.size(); i++) {
            assertThrows(IllegalArgumentException.class, calls.get(i)::run, "call " + i);
        }
        assertEquals(List.of(), node.requests);
    }

    @Test
    void exceptionsTellWhatWasAsked() {
        node.onRequest((q, apply) -> {
            throw FakeNode.error(Status.Code.INVALID_ARGUMENT, "NOT_APPLIED");
        });
        DKVException e = assertThrows(DKVException.class, () -> client.put("some key", "v"));
        assertEquals(Status.Code.INVALID_ARGUMENT, e.getGrpcStatus().getCode());
        assertEquals(-1, e.getStatus().getCode());
        assertEquals("fault NOT_APPLIED", e.getStatus().getMessage());
        assertEquals("Put", e.getRpcName());
        assertEquals("Put \"some key\"", e.getRequest());
        assertEquals(DKVException.Outcome.NOT_APPLIED, e.getOutcome());
        assertArrayEquals(utf8("some key"), (byte[]) e.getParams()[0]);
        assertTrue(e.getMessage().startsWith("Put \"some key\": INVALID_ARGUMENT: fault"), e.getMessage());
        e = assertThrows(DKVException.class, () -> client.multiGet(LINEARIZABLE, new String[] {"a", "b", "c"}));
        assertEquals("MultiGet \"a\" and 2 more", e.getRequest());
        assertEquals(LINEARIZABLE, e.getParams()[0]);
    }

    @Test
    void errorsInsideResponsesAreErrors() {
        node.onRequest((q, apply) -> Api.PutResponse.newBuilder()
                .setStatus(Api.Status.newBuilder().setCode(-1).setMessage("disk on fire")).build());
        DKVException e = assertThrows(DKVException.class, () -> client.put("k", "v"));
        assertEquals("disk on fire", e.getStatus().getMessage());
        assertEquals(Status.Code.UNKNOWN, e.getGrpcStatus().getCode());
        assertEquals(DKVException.Outcome.UNKNOWN, e.getOutcome());
    }
}
