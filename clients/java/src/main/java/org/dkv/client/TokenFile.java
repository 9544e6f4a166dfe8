package org.dkv.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.logging.Logger;

/**
 * The token in a file, which is read again every second. Its time and size do not show whether it has changed: tokens are
 * of one length, and what installs files may set their times.
 */
final class TokenFile implements Supplier<String> {
    private static final Logger LOG = Logger.getLogger(TokenFile.class.getName());
    private static final long LOOK_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final Path file;
    private String token;
    private String failed;
    private long looked;

    /**
     * Reads the file.
     *
     * @throws IllegalArgumentException if there is no token in it
     */
    TokenFile(Path file) {
        this.file = file;
        try {
            this.token = read();
        } catch (IOException e) {
            throw new IllegalArgumentException("tokenFile: " + e.getMessage(), e);
        }
        this.looked = System.nanoTime();
    }

    private String read() throws IOException {
        String text = Files.readString(file).trim();
        if (!BearerToken.valid(text)) { // its content stays out of the message
            throw new IOException(file + " does not hold one token");
        }
        return text;
    }

    /** Returns the token; the one before if the file cannot be read now. */
    @Override
    public synchronized String get() {
        if (System.nanoTime() - looked >= LOOK_NANOS) {
            looked = System.nanoTime();
            try {
                token = read();
                failed = null;
            } catch (IOException e) {
                if (!e.toString().equals(failed)) {
                    failed = e.toString();
                    LOG.warning("the token file cannot be used, the token before stays in use: " + e.getMessage());
                }
            }
        }
        return token;
    }
}
