package org.dkv.client;

import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusOr;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Looks names up as gRPC does, and names the addresses of one from another on after each turn. gRPC goes on to the next
 * address when a connection fails; to one that is taken and on which nothing is ever said, it stays for ever.
 */
final class TurningNames extends NameResolverProvider {
    private static final String SCHEME = "dns";

    private final NameResolver.Factory names;
    private final AtomicInteger turns = new AtomicInteger();

    TurningNames() {
        this(byGrpc());
    }

    TurningNames(NameResolver.Factory names) {
        this.names = names;
    }

    private static NameResolverProvider byGrpc() {
        return NameResolverRegistry.getDefaultRegistry().getProviderForScheme(SCHEME);
    }

    /** Reports whether the target of a connection is looked up here. */
    static boolean serves(String target) {
        return (target.startsWith(SCHEME + ":") || HostPort.valid(target)) && byGrpc() != null;
    }

    /** Has the next look-up begin with the next address. */
    void turn() {
        turns.getAndIncrement();
    }

    @Override
    protected boolean isAvailable() {
        return true;
    }

    @Override
    protected int priority() {
        return 5;
    }

    @Override
    public String getDefaultScheme() {
        return SCHEME;
    }

    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
        NameResolver found = names.newNameResolver(target, args);
        return found == null ? null : new Turned(found);
    }

    private NameResolver.ResolutionResult turned(NameResolver.ResolutionResult found) {
        StatusOr<List<EquivalentAddressGroup>> addresses = found.getAddressesOrError();
        if (!addresses.hasValue()) {
            return found;
        }
        List<EquivalentAddressGroup> all = new ArrayList<>(addresses.getValue());
        Collections.rotate(all, -turns.get());
        return found.toBuilder().setAddressesOrError(StatusOr.fromValue(all)).build();
    }

    private final class Turned extends NameResolver {
        private final NameResolver of;

        Turned(NameResolver of) {
            this.of = of;
        }

        @Override
        public String getServiceAuthority() {
            return of.getServiceAuthority();
        }

        @Override
        public void start(Listener2 to) {
            of.start(new Listener2() {
                @Override
                public void onResult(ResolutionResult found) {
                    to.onResult(turned(found));
                }

                @Override
                public Status onResult2(ResolutionResult found) {
                    return to.onResult2(turned(found));
                }

                @Override
                public void onError(Status error) {
                    to.onError(error);
                }
            });
        }

        @Override
        public void refresh() {
            of.refresh();
        }

        @Override
        public void shutdown() {
            of.shutdown();
        }
    }
}
