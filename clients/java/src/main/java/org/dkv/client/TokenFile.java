package org.dkv.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.logging.Logger;

/** The token in a file, which is read again once it has changed. */
final class TokenFile implements Supplier<String> {
    private static final Logger LOG = Logger.getLogger(TokenFile.class.getName());
    private static final long LOOK_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final FileStamps stamps;
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
        this.stamps = new FileStamps(file);
        stamps.changed();
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
            if (stamps.changed()) {
                try {
                    token = read();
                    failed = null;
                } catch (IOException e) {
                    stamps.forget();
                    if (!e.toString().equals(failed)) {
                        failed = e.toString();
                        LOG.warning("the token file has changed and cannot be used, the token before stays in use: "
                                + e.getMessage());
                    }
                }
            }
        }
        return token;
    }
}
