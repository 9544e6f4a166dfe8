package org.dkv.ycsb;

import dkv.serverpb.Api;
import java.io.IOException;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.Vector;
import org.dkv.client.ConnectionOptions;
import org.dkv.client.DKVClient;
import org.dkv.client.DKVEntryIterator;
import org.dkv.client.DKVException;
import org.dkv.client.DiscoveryDKVClient;
import org.dkv.client.KeyHashBasedShardProvider;
import org.dkv.client.ShardConfiguration;
import org.dkv.client.ShardedDKVClient;
import org.dkv.client.SimpleDKVClient;
import site.ycsb.ByteIterator;
import site.ycsb.DB;
import site.ycsb.DBException;
import site.ycsb.Status;

/**
 * The DKV binding for YCSB. A record is one key, {@code table/key}, whose value holds all fields.
 *
 * <p>Properties: {@code dkv.addresses} (nodes, separated by commas), or {@code dkv.discovery} (registries) with {@code
 * dkv.database}, or {@code dkv.shards} (a JSON file); {@code dkv.consistency} (LINEARIZABLE or SEQUENTIAL, for reads);
 * {@code dkv.timeout} (milliseconds); {@code dkv.idempotent} (whether writes carry request ids); {@code dkv.tls},
 * {@code dkv.tls.ca}, {@code dkv.tls.cert}, {@code dkv.tls.key} and {@code dkv.token.file}.
 *
 * <p>YCSB makes one instance for each of its threads. They share one client, which the last one closes.
 */
public final class DKVYCSBClient extends DB {
    static final String DEFAULT_ADDRESSES = "127.0.0.1:9081,127.0.0.1:9082,127.0.0.1:9083";
    /** The most attempts of an update: concurrent writers of one record rarely need as many. */
    private static final int MAX_UPDATE_ATTEMPTS = 1000;

    private static final Object LOCK = new Object();
    private static DKVClient shared;
    private static int users;

    private DKVClient client;
    private Api.ReadConsistency consistency;
    private boolean allFields;

    @Override
    public void init() throws DBException {
        Properties p = getProperties();
        try {
            consistency = Api.ReadConsistency.valueOf(p.getProperty("dkv.consistency", "LINEARIZABLE").toUpperCase());
        } catch (IllegalArgumentException e) {
            throw new DBException("dkv.consistency must be LINEARIZABLE or SEQUENTIAL", e);
        }
        allFields = Boolean.parseBoolean(p.getProperty("writeallfields", "false"));
        synchronized (LOCK) {
            if (users == 0) {
                shared = open(p);
            }
            users++;
            client = shared;
        }
    }

    private static ConnectionOptions options(Properties p) {
        ConnectionOptions.Builder options = ConnectionOptions.builder()
                .requestTimeout(Long.parseLong(p.getProperty("dkv.timeout", "5000")))
                .idempotentRetries(Boolean.parseBoolean(p.getProperty("dkv.idempotent", "true")));
        if (Boolean.parseBoolean(p.getProperty("dkv.tls", "false"))) {
            options.tls();
        }
        if (p.getProperty("dkv.tls.ca") != null) {
            options.trustCertificates(Path.of(p.getProperty("dkv.tls.ca")));
        }
        String chain = p.getProperty("dkv.tls.cert");
        String key = p.getProperty("dkv.tls.key");
        if (chain != null && key != null) {
            options.clientCertificate(Path.of(chain), Path.of(key));
        } else if (chain != null || key != null) {
            throw new IllegalArgumentException("dkv.tls.cert and dkv.tls.key belong together");
        }
        if (p.getProperty("dkv.token.file") != null) {
            options.tokenFile(Path.of(p.getProperty("dkv.token.file")));
        }
        return options.build();
    }

    private static DKVClient open(Properties p) throws DBException {
        try {
            ConnectionOptions options = options(p);
            String shards = p.getProperty("dkv.shards");
            if (shards != null) {
                try (Reader json = Files.newBufferedReader(Path.of(shards))) {
                    return new ShardedDKVClient(
                            new KeyHashBasedShardProvider(ShardConfiguration.fromJson(json)), options);
                }
            }
            String registries = p.getProperty("dkv.discovery");
            if (registries != null) {
                return new DiscoveryDKVClient(registries, p.getProperty("dkv.database", "default"), options);
            }
            return new SimpleDKVClient(p.getProperty("dkv.addresses", DEFAULT_ADDRESSES), options);
        } catch (IOException | IllegalArgumentException e) {
            throw new DBException("the properties that begin with dkv. are not right: " + e.getMessage(), e);
        }
    }

    @Override
    public void cleanup() {
        synchronized (LOCK) {
            if (client != null && --users == 0) {
                shared.close();
                shared = null;
            }
            client = null;
        }
    }

    private static byte[] keyOf(String table, String key) {
        return (table + "/" + key).getBytes(StandardCharsets.UTF_8);
    }

    /** An operation that may throw what calls of DKV throw. */
    private interface Operation {
        Status run();
    }

    private static Status run(Operation op) {
        try {
            return op.run();
        } catch (DKVException e) {
            System.err.println(e.getMessage());
            switch (e.getGrpcStatus().getCode()) {
                case UNAVAILABLE:
                case DEADLINE_EXCEEDED:
                    return Status.SERVICE_UNAVAILABLE;
                case INVALID_ARGUMENT:
                    return Status.BAD_REQUEST;
                default:
                    return Status.ERROR;
            }
        }
    }

    @Override
    public Status read(String table, String key, Set<String> fields, Map<String, ByteIterator> result) {
        return run(() -> {
            byte[] value = client.get(consistency, keyOf(table, key));
            if (value.length == 0) {
                return Status.NOT_FOUND;
            }
            Fields.select(value, fields, result);
            return Status.OK;
        });
    }

    @Override
    public Status scan(
            String table, String startKey, int count, Set<String> fields,
            Vector<HashMap<String, ByteIterator>> result) {
        return run(() -> {
            byte[] prefix = (table + "/").getBytes(StandardCharsets.UTF_8);
            try (DKVEntryIterator records = client.iterate(keyOf(table, startKey), prefix)) {
                for (int i = 0; i < count && records.hasNext(); i++) {
                    HashMap<String, ByteIterator> record = new HashMap<>();
                    Fields.select(records.next().getValueAsByteArray(), fields, record);
                    result.add(record);
                }
            }
            return Status.OK;
        });
    }

    /** Sets some fields, atomically, since all fields are in one value. */
    @Override
    public Status update(String table, String key, Map<String, ByteIterator> values) {
        if (allFields) {
            return insert(table, key, values);
        }
        Map<String, byte[]> changed = Fields.of(values);
        byte[] k = keyOf(table, key);
        return run(() -> {
            for (int i = 0; i < MAX_UPDATE_ATTEMPTS; i++) {
                byte[] before = client.get(Api.ReadConsistency.LINEARIZABLE, k);
                if (before.length == 0) {
                    return Status.NOT_FOUND;
                }
                Map<String, byte[]> fields = Fields.decode(before);
                fields.putAll(changed);
                if (client.compareAndSet(k, before, Fields.encode(fields))) {
                    return Status.OK;
                }
            }
            return Status.ERROR;
        });
    }

    @Override
    public Status insert(String table, String key, Map<String, ByteIterator> values) {
        return run(() -> {
            client.put(keyOf(table, key), Fields.encode(Fields.of(values)));
            return Status.OK;
        });
    }

    @Override
    public Status delete(String table, String key) {
        return run(() -> {
            client.delete(keyOf(table, key));
            return Status.OK;
        });
    }
}
