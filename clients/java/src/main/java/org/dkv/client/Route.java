package org.dkv.client;

/** The nodes that a call may go to. It is asked for each attempt. */
interface Route {
    /** Returns the address for the next attempt; null while none is known. */
    String next();

    /** Records that an address did not answer. */
    void failed(String address);

    /** Reports whether the addresses become others as the client learns of them. */
    default boolean learns() {
        return false;
    }

    /** Records that a node has served the request. */
    default void served() {}

    /** Returns the number of different addresses. */
    int size();
}
