package org.dkv.client;

import dkv.serverpb.Api;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Metrics;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * The options of a client: time limits, retries, TLS and metrics. Immutable; {@code
 * ConnectionOptions.builder().build()} has the defaults.
 */
public final class ConnectionOptions {
    static final long DEFAULT_TIMEOUT_MILLIS = 5000;
    static final int DEFAULT_POOL_SIZE = 1000;
    static final String DEFAULT_METRIC_PREFIX = "dkv-client-java";

    private final long readTimeout;
    private final long writeTimeout;
    private final long connectTimeout;
    private final String metricPrefix;
    private final MeterRegistry meterRegistry;
    private final int connectionPoolSize;
    private final boolean idempotentRetries;
    private final String dcId;
    private final Api.AckLevel ack;
    private final Consumer<WriteAnswer> answers;
    private final String authority;
    private final Supplier<String> token;
    private final boolean tls;
    private final Path trustCertificates;
    private final Path trustStore;
    private final char[] trustStorePassword;
    private final Path certificateChain;
    private final Path privateKey;

    private ConnectionOptions(Builder b) {
        readTimeout = b.readTimeout != null ? b.readTimeout : b.requestTimeout;
        writeTimeout = b.writeTimeout != null ? b.writeTimeout : b.requestTimeout;
        connectTimeout = b.connectTimeout;
        metricPrefix = b.metricPrefix;
        meterRegistry = b.meterRegistry != null ? b.meterRegistry : Metrics.globalRegistry;
        connectionPoolSize = b.connectionPoolSize;
        idempotentRetries = b.idempotentRetries;
        dcId = b.dcId;
        ack = b.ack;
        answers = b.answers;
        authority = b.authority;
        token = b.token;
        tls = b.tls;
        trustCertificates = b.trustCertificates;
        trustStore = b.trustStore;
        trustStorePassword = b.trustStorePassword;
        certificateChain = b.certificateChain;
        privateKey = b.privateKey;
    }

    /** Returns a builder that has the defaults. */
    public static Builder builder() {
        return new Builder();
    }

    static ConnectionOptions orDefault(ConnectionOptions options) {
        return options != null ? options : builder().build();
    }

    /** Returns how long a read may take in all, in milliseconds. */
    public long getReadTimeout() {
        return readTimeout;
    }

    /** Returns how long a write may take in all, in milliseconds. */
    public long getWriteTimeout() {
        return writeTimeout;
    }

    /** Returns how long one attempt to connect may take, in milliseconds. */
    public long getConnectTimeout() {
        return connectTimeout;
    }

    /** Returns the prefix of the metrics' names. */
    public String getMetricPrefix() {
        return metricPrefix;
    }

    /** Returns the registry of the metrics. */
    public MeterRegistry getMeterRegistry() {
        return meterRegistry;
    }

    /** Returns the most connections that a client keeps. */
    public int getConnectionPoolSize() {
        return connectionPoolSize;
    }

    /** Reports whether writes carry a request id. */
    public boolean isIdempotentRetries() {
        return idempotentRetries;
    }

    /** Returns the data centre that this client is in; null if not known. */
    public String getDcId() {
        return dcId;
    }

    /** Returns which nodes must have a write before it is acknowledged. */
    public Api.AckLevel getAck() {
        return ack;
    }

    /** Returns what is called with the answer to each write; null for nothing. */
    public Consumer<WriteAnswer> getAnswers() {
        return answers;
    }

    boolean tls() {
        return tls;
    }

    /** The source of the token; null if none is sent. */
    Supplier<String> token() {
        return token;
    }

    String authority() {
        return authority;
    }

    Path trustCertificates() {
        return trustCertificates;
    }

    Path trustStore() {
        return trustStore;
    }

    char[] trustStorePassword() {
        return trustStorePassword == null ? null : trustStorePassword.clone();
    }

    Path certificateChain() {
        return certificateChain;
    }

    Path privateKey() {
        return privateKey;
    }

    /** Sets options. Times are in milliseconds; the default of each is 5000. */
    public static final class Builder {
        private long requestTimeout = DEFAULT_TIMEOUT_MILLIS;
        private Long readTimeout;
        private Long writeTimeout;
        private long connectTimeout = DEFAULT_TIMEOUT_MILLIS;
        private String metricPrefix = DEFAULT_METRIC_PREFIX;
        private MeterRegistry meterRegistry;
        private int connectionPoolSize = DEFAULT_POOL_SIZE;
        private boolean idempotentRetries = true;
        private String dcId;
        private Api.AckLevel ack = Api.AckLevel.ACK_DEFAULT;
        private Consumer<WriteAnswer> answers;
        private String authority;
        private Supplier<String> token;
        private boolean tls;
        private Path trustCertificates;
        private Path trustStore;
        private char[] trustStorePassword;
        private Path certificateChain;
        private Path privateKey;

        private Builder() {}

        /** Bounds reads and writes that have no bound of their own, all attempts together. */
        public Builder requestTimeout(long millis) {
            this.requestTimeout = positive(millis, "requestTimeout");
            return this;
        }

        /** Bounds reads, all attempts together, and the wait for what comes next in an iteration. */
        public Builder readTimeout(long millis) {
            this.readTimeout = positive(millis, "readTimeout");
            return this;
        }

        /** Bounds writes, all attempts together. */
        public Builder writeTimeout(long millis) {
            this.writeTimeout = positive(millis, "writeTimeout");
            return this;
        }

        /** Bounds an attempt to connect. */
        public Builder connectTimeout(long millis) {
            this.connectTimeout = positive(millis, "connectTimeout");
            return this;
        }

        /** Sets the prefix of the metrics' names; {@code dkv-client-java} by default. */
        public Builder metricPrefix(String prefix) {
            this.metricPrefix = text(prefix, "metricPrefix").trim();
            return this;
        }

        /** Sets the registry of the metrics; Micrometer's global registry by default. */
        public Builder meterRegistry(MeterRegistry registry) {
            this.meterRegistry = registry;
            return this;
        }

        /** Bounds the open connections, one per node; those idle for longest are closed. 1000 by default. */
        public Builder connectionPoolSize(int connections) {
            this.connectionPoolSize = Math.toIntExact(positive(connections, "connectionPoolSize"));
            return this;
        }

        /**
         * Sets whether each write carries an id by which servers recognise a retry. A write whose outcome is unknown is
         * then repeated and still applied once. True by default. If it is off, only writes that certainly had no effect
         * are repeated; so it is with nodes of the earlier system, which do not know such ids.
         */
        public Builder idempotentRetries(boolean on) {
            this.idempotentRetries = on;
            return this;
        }

        /** Sets the data centre that this client is in: its replicas are asked first. */
        public Builder dcId(String dcId) {
            this.dcId = dcId;
            return this;
        }

        /**
         * Sets which nodes must have a write before it is acknowledged, if that is more than the masters ask for
         * ({@code repl-ack}). Such a write never falls back: without a slave that stands by it fails as not applied. If
         * the slave does not confirm it in time, its outcome is unknown: it is applied, and a promotion may undo it.
         */
        public Builder ack(Api.AckLevel level) {
            if (level == null || level == Api.AckLevel.UNRECOGNIZED) {
                throw new IllegalArgumentException("ack is " + level + "; use one of the levels of AckLevel");
            }
            this.ack = level;
            return this;
        }

        /**
         * Sets what is called with the answer to each write that succeeds, in the thread of its caller and before the
         * write returns. Use it to see the level that was reached. It should take no time; what it throws, the write
         * throws.
         */
        public Builder answers(Consumer<WriteAnswer> answers) {
            this.answers = answers;
            return this;
        }

        /**
         * Sends a bearer token with each call. It is never sent over a network in the clear: without TLS, calls to
         * other hosts than this machine fail.
         */
        public Builder token(String token) {
            if (!BearerToken.valid(token)) { // its content stays out of the message
                throw new IllegalArgumentException("token is empty, or has characters that cannot be sent");
            }
            return tokenSource(() -> token);
        }

        /** As {@link #token(String)}, for the token that a source returns for each call, which should take no time. */
        public Builder tokenSource(Supplier<String> source) {
            if (source == null) {
                throw new IllegalArgumentException("tokenSource is null");
            }
            this.token = source;
            return this;
        }

        /** As {@link #token(String)}, for the token in a file, which is read again when it has changed. */
        public Builder tokenFile(Path file) {
            return tokenSource(new TokenFile(readable(file, "tokenFile")));
        }

        /**
         * Sets the name that the certificates of all nodes must contain, instead of that of their addresses, and that
         * calls carry as their authority. A {@link ShardedDKVClient} without TLS uses the names of its sets of nodes by
         * default.
         */
        public Builder authority(String name) {
            this.authority = text(name, "authority").trim();
            return this;
        }

        /** Uses TLS, and trusts the authorities that the Java runtime trusts. */
        public Builder tls() {
            this.tls = true;
            return this;
        }

        /** Uses TLS, and trusts only the authorities in a PEM file, which is read again when it has changed. */
        public Builder trustCertificates(Path pem) {
            this.trustCertificates = readable(pem, "trustCertificates");
            return tls();
        }

        /** As {@link #trustCertificates}, for the certificates in a key store of the Java runtime, such as PKCS #12. */
        public Builder trustStore(Path store, char[] password) {
            this.trustStore = readable(store, "trustStore");
            this.trustStorePassword = password == null ? null : password.clone();
            return tls();
        }

        /**
         * Uses TLS with a client certificate: the PEM files of its chain and of its private key (PKCS #8). They are
         * read again when they have changed; open connections go on.
         */
        public Builder clientCertificate(Path chain, Path key) {
            this.certificateChain = readable(chain, "clientCertificate");
            this.privateKey = readable(key, "clientCertificate's key");
            return tls();
        }

        /** Makes the options. */
        public ConnectionOptions build() {
            return new ConnectionOptions(this);
        }

        private static long positive(long n, String name) {
            if (n <= 0) {
                throw new IllegalArgumentException(name + " is " + n + ", but must be positive");
            }
            return n;
        }

        private static String text(String s, String name) {
            if (s == null || s.isBlank()) {
                throw new IllegalArgumentException(name + " is empty");
            }
            return s;
        }

        private static Path readable(Path file, String name) {
            if (file == null || !Files.isReadable(file)) {
                throw new IllegalArgumentException(name + ": " + file + " is not a readable file");
            }
            return file;
        }
    }
}
