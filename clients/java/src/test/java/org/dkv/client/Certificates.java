package org.dkv.client;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.util.Base64;
import java.util.concurrent.TimeUnit;

/** A certificate of its own authority for localhost and 127.0.0.1, with its key, in PEM files. */
final class Certificates {
    final Path certificate;
    final Path key;
    /** A key store of the Java runtime with both; its password is "changeit". */
    final Path store;

    Certificates(Path folder, String name) throws IOException, GeneralSecurityException, InterruptedException {
        store = folder.resolve(name + ".p12");
        keytool("-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", "CN=" + name, "-ext",
                "san=dns:localhost,ip:127.0.0.1", "-ext", "bc=ca:true", "-validity", "2", "-keystore", store.toString(),
                "-storetype", "PKCS12", "-storepass", "changeit");
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(store)) {
            keys.load(in, "changeit".toCharArray());
        }
        Key secret = keys.getKey(name, "changeit".toCharArray());
        this.certificate = pem(folder.resolve(name + ".crt"), "CERTIFICATE", keys.getCertificate(name).getEncoded());
        this.key = pem(folder.resolve(name + ".key"), "PRIVATE KEY", secret.getEncoded());
    }

    private static Path pem(Path file, String type, byte[] content) throws IOException {
        String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(content);
        return Files.writeString(file, "-----BEGIN " + type + "-----\n" + body + "\n-----END " + type + "-----\n");
    }

    private static void keytool(String... args) throws IOException, InterruptedException {
        String[] command = new String[args.length + 1];
        command[0] = Path.of(System.getProperty("java.home"), "bin", "keytool").toString();
        System.arraycopy(args, 0, command, 1, args.length);
        Process p = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        if (!p.waitFor(60, TimeUnit.SECONDS) || p.exitValue() != 0) {
            p.destroyForcibly();
            throw new IOException("keytool failed");
        }
    }
}
