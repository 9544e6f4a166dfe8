package org.dkv.client;

import java.util.ArrayList;
import java.util.List;

/** The addresses that one call tries, in order of preference and then again from the first. */
final class Candidates implements Route {
    private final List<String> addresses;
    private int at;

    /** Makes the order of a call; addresses that are known not to answer come last. */
    Candidates(List<String> preferred, Connections connections) {
        List<String> live = null;
        List<String> failing = null;
        for (int i = 0; i < preferred.size(); i++) {
            String address = preferred.get(i);
            boolean fails = connections.failing(address); // asked once: it changes at any time
            if (fails && failing == null) {
                live = new ArrayList<>(preferred.subList(0, i));
                failing = new ArrayList<>();
            }
            if (failing != null) {
                (fails ? failing : live).add(address);
            }
        }
        if (failing != null) {
            live.addAll(failing);
        }
        this.addresses = failing == null ? preferred : live;
    }

    @Override
    public String next() {
        return addresses.isEmpty() ? null : addresses.get(at);
    }

    @Override
    public void failed(String address) {
        if (!addresses.isEmpty() && addresses.get(at).equals(address)) {
            at = (at + 1) % addresses.size();
        }
    }

    @Override
    public int size() {
        return addresses.size();
    }
}
