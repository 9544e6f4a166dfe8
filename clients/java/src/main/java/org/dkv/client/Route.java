package org.dkv.client;

/** Where a call may go. It is asked again for each attempt. */
interface Route {
    /** Returns the address to ask next; null while none is known. */
    String next();

    /** Takes note that an address did not answer. */
    void failed(String address);

    /** Returns how many different addresses there are to ask. */
    int size();
}
