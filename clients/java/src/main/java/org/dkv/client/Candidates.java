package org.dkv.client;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** The addresses that one call tries, in order of preference and then again from the first. */
final class Candidates implements Route {
    private final List<String> addresses;
    private int at;

    /** Makes the order of a call; addresses that are known not to answer come last. */
    Candidates(List<String> preferred, Connections connections) {
        List<String> order = preferred;
        for (String address : preferred) {
            if (connections.failing(address)) {
                order = new ArrayList<>(preferred);
                order.sort(Comparator.comparing(connections::failing)); // stable
                break;
            }
        }
        this.addresses = order;
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
