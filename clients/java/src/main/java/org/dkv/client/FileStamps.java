package org.dkv.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** Recognises that files have changed, by their times, sizes and identities. */
final class FileStamps {
    private final List<Path> files;
    private List<String> seen;

    FileStamps(Path... files) {
        this.files = Arrays.stream(files).filter(f -> f != null).collect(Collectors.toList());
    }

    /** Reports whether a file has changed since the last call. Read the files after it, so that no change is missed. */
    boolean changed() {
        List<String> now = files.stream().map(FileStamps::stamp).collect(Collectors.toList());
        boolean changed = !now.equals(seen);
        seen = now;
        return changed;
    }

    /** Makes the next call report a change: the files could not be used, which their stamps may not show the end of. */
    void forget() {
        seen = null;
    }

    private static String stamp(Path file) {
        try {
            return Files.readAttributes(file, "lastModifiedTime,size,fileKey").toString();
        } catch (IOException e) {
            return "missing";
        }
    }
}
