package org.dkv.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A dkvsrv process of bin/ on free ports, with its folder below a test's. */
final class ServerProcess implements AutoCloseable {
    private static final Path BINARY =
            Path.of(System.getProperty("dkv.root", "../.."), "bin", "dkvsrv").toAbsolutePath().normalize();
    private static final long STOP_SECONDS = 30;

    final String address;
    private final String name;
    private final Path log;
    private final List<String> command = new ArrayList<>();
    private Process process;

    /** Prepares a process; start begins it. */
    ServerProcess(Path folder, String name, String... flags) {
        this.name = name;
        this.address = Addresses.next();
        this.log = folder.resolve(name + ".log");
        command.addAll(List.of(
                BINARY.toString(), "--node-name", name, "--db-folder", folder.resolve(name).toString(),
                "--listen-addr", address, "--http-listen-addr", "127.0.0.1:0", "--block-cache-size", "8MiB"));
        command.addAll(List.of(flags));
    }

    /** Reports whether there is a binary to test with. */
    static boolean available() {
        return Files.isExecutable(BINARY);
    }

    ServerProcess start() throws IOException {
        process = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile())).start();
        return this;
    }

    /** Returns what the process has written last. */
    String log() {
        try {
            String all = Files.readString(log);
            return name + ": ..." + all.substring(Math.max(0, all.length() - 2000));
        } catch (IOException e) {
            return name + ": no log: " + e;
        }
    }

    boolean alive() {
        return process != null && process.isAlive();
    }

    /** Ends the process as a crash of the machine would. */
    void kill() throws InterruptedException {
        process.destroyForcibly();
        process.waitFor(STOP_SECONDS, TimeUnit.SECONDS);
    }

    @Override
    public void close() {
        if (process == null) {
            return;
        }
        process.destroy();
        try {
            if (!process.waitFor(STOP_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
        } catch (InterruptedException e) {
            process.destroyForcibly();
            Thread.currentThread().interrupt();
        }
    }
}
