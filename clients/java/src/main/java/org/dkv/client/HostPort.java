package org.dkv.client;

import java.net.URI;
import java.net.URISyntaxException;
import java.util.List;

/** Checks addresses from outside the client. */
final class HostPort {
    private static final int MAX_LENGTH = 259;
    private static final List<String> SCHEMES = List.of("dns:", "ipv4:", "ipv6:", "unix:", "xds:");

    private HostPort() {}

    /**
     * Reports whether a text is {@code host:port}, with a host that is a name, an IPv4 address or an IPv6 one in
     * brackets.
     */
    static boolean valid(String address) {
        int colon = address.lastIndexOf(':');
        if (colon < 1 || address.length() > MAX_LENGTH || !validPort(address.substring(colon + 1))) {
            return false;
        }
        if (!dialable(address)) {
            return false;
        }
        String host = address.substring(0, colon);
        if (host.startsWith("[") && host.endsWith("]")) {
            return host.length() > 2 && host.substring(1, host.length() - 1).chars().allMatch(HostPort::inIPv6)
                    && !host.equals("[::]");
        }
        return host.chars().allMatch(HostPort::inName) && !host.equals("0.0.0.0");
    }

    /** Reports whether gRPC can connect to an address: it must be valid at the start of a URI. */
    private static boolean dialable(String address) {
        try {
            return new URI("//" + address).getHost() != null;
        } catch (URISyntaxException e) {
            return false;
        }
    }

    /** Reports whether an application may pass a text as an address: {@code host:port}, or a gRPC target. */
    static boolean mayBeTarget(String address) {
        return valid(address) || SCHEMES.stream().anyMatch(address::startsWith);
    }

    /** Reports whether gRPC may be able to connect to a text that an application passes as an address. */
    static boolean mayBeDialled(String address) {
        return mayBeTarget(address) || address.contains("://")
                || validPort(address.substring(address.lastIndexOf(':') + 1)) && dialable(address);
    }

    /**
     * Returns how to reach an address by calls that carry another authority: {@code authority@host:port}. An authority
     * that cannot be the name of a virtual host is left out.
     */
    static String named(String authority, String address) {
        return validName(authority) ? authority + '@' + address : address;
    }

    /** Returns the authority in an address that {@link #named} has made; null if there is none. */
    static String authorityOf(String address) {
        int at = address.indexOf('@');
        return at > 0 && validName(address.substring(0, at)) && valid(address.substring(at + 1))
                ? address.substring(0, at) : null;
    }

    /** Returns an address without the authority that {@link #named} has added. */
    static String targetOf(String address) {
        String authority = authorityOf(address);
        return authority == null ? address : address.substring(authority.length() + 1);
    }

    private static boolean validName(String name) {
        return !name.isEmpty() && name.length() < MAX_LENGTH && name.chars().allMatch(HostPort::inName);
    }

    private static boolean validPort(String port) {
        if (port.isEmpty() || port.length() > 5 || !port.chars().allMatch(c -> c >= '0' && c <= '9')) {
            return false;
        }
        int number = Integer.parseInt(port);
        return number >= 1 && number <= 65535;
    }

    private static boolean inName(int c) {
        return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_';
    }

    private static boolean inIPv6(int c) {
        return c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c >= '0' && c <= '9' || c == ':' || c == '.' || c == '%';
    }
}
