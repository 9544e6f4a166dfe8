package org.dkv.client;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import io.grpc.util.AdvancedTlsX509KeyManager;
import io.grpc.util.AdvancedTlsX509TrustManager;
import io.grpc.util.CertificateUtils;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.logging.Logger;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * The certificates of a client. They are read again when a handshake begins after their files have changed; a set that
 * cannot be used is logged, and the one before stays in use. Open connections go on.
 */
final class TlsFiles {
    private static final Logger LOG = Logger.getLogger(TlsFiles.class.getName());
    private static final long LOOK_NANOS = TimeUnit.MILLISECONDS.toNanos(200);

    private final ConnectionOptions options;
    private final FileStamps stamps;
    private final AdvancedTlsX509KeyManager identity = new AdvancedTlsX509KeyManager();
    private final AdvancedTlsX509TrustManager authorities;
    private String failed;
    private long looked;

    /**
     * Reads the files.
     *
     * @throws IllegalArgumentException if they cannot be used
     */
    TlsFiles(ConnectionOptions options) {
        this.options = options;
        this.stamps = new FileStamps(
                options.trustCertificates(), options.trustStore(), options.certificateChain(), options.privateKey());
        stamps.changed();
        try {
            this.authorities = AdvancedTlsX509TrustManager.newBuilder().build();
            read();
        } catch (IOException | GeneralSecurityException e) {
            throw new IllegalArgumentException("TLS files cannot be used: " + e.getMessage(), e);
        }
        this.looked = System.nanoTime();
    }

    /** Returns credentials that go by the files as they are at each handshake. */
    ChannelCredentials credentials() {
        TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
        if (trusts() || options.certificateChain() != null) {
            tls.trustManager(new Trust());
        }
        if (options.certificateChain() != null) {
            tls.keyManager(identity);
        }
        return tls.build();
    }

    private boolean trusts() {
        return options.trustCertificates() != null || options.trustStore() != null;
    }

    private synchronized void refresh() {
        if (System.nanoTime() - looked < LOOK_NANOS) {
            return;
        }
        looked = System.nanoTime();
        if (!stamps.changed()) {
            return;
        }
        try {
            read();
            failed = null;
            LOG.info("the TLS files have changed and were read again");
        } catch (IOException | GeneralSecurityException | RuntimeException e) {
            stamps.forget();
            if (!e.toString().equals(failed)) {
                failed = e.toString();
                LOG.warning(
                        "the TLS files have changed and cannot be used, those before stay in use: " + e.getMessage());
            }
        }
    }

    /** Reads all files before it uses one of them. */
    private void read() throws IOException, GeneralSecurityException {
        X509Certificate[] trusted = trusts() ? trusted() : null;
        X509Certificate[] chain = null;
        PrivateKey key = null;
        if (options.certificateChain() != null) {
            try (InputStream chainPem = Files.newInputStream(options.certificateChain());
                    InputStream keyPem = Files.newInputStream(options.privateKey())) {
                chain = CertificateUtils.getX509Certificates(chainPem);
                key = CertificateUtils.getPrivateKey(keyPem);
            }
            checkPair(chain, key);
        }
        if (trusted != null) {
            authorities.updateTrustCredentials(trusted);
        } else {
            authorities.useSystemDefaultTrustCerts();
        }
        if (chain != null) {
            identity.updateIdentityCredentials(chain, key);
        }
    }

    private X509Certificate[] trusted() throws IOException, GeneralSecurityException {
        List<X509Certificate> out = new ArrayList<>();
        if (options.trustCertificates() != null) {
            try (InputStream pem = Files.newInputStream(options.trustCertificates())) {
                Collections.addAll(out, CertificateUtils.getX509Certificates(pem));
            }
        }
        if (options.trustStore() != null) {
            KeyStore store = KeyStore.getInstance(options.trustStore().toFile(), options.trustStorePassword());
            for (String alias : Collections.list(store.aliases())) {
                Certificate c = store.getCertificate(alias);
                if (c instanceof X509Certificate) {
                    out.add((X509Certificate) c);
                }
            }
        }
        if (out.isEmpty()) {
            throw new CertificateException("there is no authority to trust in the files");
        }
        return out.toArray(new X509Certificate[0]);
    }

    /** Checks that a key is that of the first certificate: one of the files may have been replaced before the other. */
    private static void checkPair(X509Certificate[] chain, PrivateKey key) throws GeneralSecurityException {
        if (chain.length == 0) {
            throw new CertificateException("there is no certificate in the file of the client's certificate");
        }
        String algorithm;
        switch (key.getAlgorithm()) {
            case "EC":
                algorithm = "SHA256withECDSA";
                break;
            case "RSA":
                algorithm = "SHA256withRSA";
                break;
            default:
                return; // the handshake finds out
        }
        byte[] probe = {1, 2, 3};
        Signature signing = Signature.getInstance(algorithm);
        signing.initSign(key);
        signing.update(probe);
        Signature check = Signature.getInstance(algorithm);
        check.initVerify(chain[0].getPublicKey());
        check.update(probe);
        if (!check.verify(signing.sign())) {
            throw new GeneralSecurityException("the private key is not that of the client's certificate");
        }
    }

    /**
     * Looks at the files first of all in a handshake: the server's certificate is checked before the client's is
     * chosen.
     */
    private final class Trust extends X509ExtendedTrustManager {
        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine)
                throws CertificateException {
            refresh();
            authorities.checkServerTrusted(chain, type, engine);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket)
                throws CertificateException {
            refresh();
            authorities.checkServerTrusted(chain, type, socket);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            refresh();
            authorities.checkServerTrusted(chain, type);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine)
                throws CertificateException {
            throw new CertificateException("this is a client");
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket)
                throws CertificateException {
            throw new CertificateException("this is a client");
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            throw new CertificateException("this is a client");
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return authorities.getAcceptedIssuers();
        }
    }
}
