package org.dkv.client;

import io.grpc.Status;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * Measures calls: the timer {@code <prefix>.requests} by method and status, all attempts of a call together, and the
 * counter {@code <prefix>.retries} by method.
 */
final class CallMetrics {
    private static final Status.Code[] CODES = Status.Code.values();

    private final String prefix;
    private final MeterRegistry registry;
    private final Map<String, Method> methods = new ConcurrentHashMap<>();

    CallMetrics(ConnectionOptions options) {
        this.prefix = options.getMetricPrefix();
        this.registry = options.getMeterRegistry();
    }

    void ended(String method, Status.Code code, long nanos) {
        of(method).timer(code).record(nanos, TimeUnit.NANOSECONDS);
    }

    void retried(String method) {
        of(method).retries.increment();
    }

    private Method of(String method) {
        Method m = methods.get(method);
        return m != null ? m : methods.computeIfAbsent(method, Method::new);
    }

    private final class Method {
        private final String name;
        private final Counter retries;
        private final Timer[] timers = new Timer[CODES.length];

        Method(String name) {
            this.name = name;
            this.retries = Counter.builder(prefix + ".retries")
                    .description("Attempts beyond the first of each call").tag("method", name).register(registry);
        }

        /** Looks the timer up once; concurrent callers get the same one from the registry. */
        Timer timer(Status.Code code) {
            Timer t = timers[code.ordinal()];
            if (t == null) {
                t = Timer.builder(prefix + ".requests").description("Calls, with all their attempts")
                        .tag("method", name).tag("status", code.name()).register(registry);
                timers[code.ordinal()] = t;
            }
            return t;
        }
    }
}
