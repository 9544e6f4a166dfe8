package org.dkv.client;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;

/** Addresses of which one is used until it fails, then the next. The first one is chosen at random. */
final class Ring implements Route {
    private final List<String> addresses;
    private final AtomicInteger current;

    Ring(List<String> addresses) {
        this.addresses = List.copyOf(addresses);
        this.current = new AtomicInteger(ThreadLocalRandom.current().nextInt(addresses.size()));
    }

    @Override
    public String next() {
        return addresses.get(current.get());
    }

    /** Returns all addresses, the one in use first. */
    List<String> all() {
        List<String> out = new ArrayList<>(addresses);
        Collections.rotate(out, -current.get());
        return out;
    }

    /** Moves to the next address, unless another caller already did. */
    @Override
    public void failed(String address) {
        int i = current.get();
        if (addresses.get(i).equals(address)) {
            current.compareAndSet(i, (i + 1) % addresses.size());
        }
    }

    @Override
    public int size() {
        return addresses.size();
    }
}
