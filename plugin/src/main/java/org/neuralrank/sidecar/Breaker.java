package org.neuralrank.sidecar;

import java.util.function.LongSupplier;

/**
 * A circuit breaker for one kind of call to one sidecar: after a number of failures in a row it refuses calls for a while, so that
 * a dead sidecar costs queries nothing; then one call goes through, and its outcome decides.
 *
 * <p>Each kind of call has its own: where Encode works and Rank fails, a common one would never open.
 */
public final class Breaker {

    /** What happens to the next call. */
    public enum State {
        /** It is made. */
        CLOSED,
        /** It is refused. */
        OPEN,
        /** It is refused while the one call that was let through is still under way. */
        HALF_OPEN
    }

    /** Whether a call may be made. */
    public enum Permit {
        YES,
        /** Yes, and its outcome decides: the connection should be tried at once. */
        PROBE,
        NO
    }

    private final LongSupplier nanoClock;
    private int threshold;
    private long openNanos;
    private State state = State.CLOSED;
    private int failures;
    private long openedAt;
    private long opened;

    /**
     * @param nanoClock a clock that never goes back, in nanoseconds
     * @param threshold failures in a row that open it
     * @param openMs    how long it refuses, in ms
     */
    public Breaker(LongSupplier nanoClock, int threshold, long openMs) {
        this.nanoClock = nanoClock;
        configure(threshold, openMs);
    }

    /** New settings; the state stays. */
    public synchronized void configure(int threshold, long openMs) {
        this.threshold = threshold;
        this.openNanos = openMs * 1_000_000;
    }

    /** Asks for a call. Who gets a permit must report its outcome. */
    public synchronized Permit acquire() {
        if (state == State.CLOSED) {
            return Permit.YES;
        }
        // A probe whose outcome never came must not keep it shut for ever: after as long again, another may go.
        if (nanoClock.getAsLong() - openedAt < openNanos) {
            return Permit.NO;
        }
        state = State.HALF_OPEN;
        openedAt = nanoClock.getAsLong();
        return Permit.PROBE;
    }

    public synchronized void succeeded() {
        state = State.CLOSED;
        failures = 0;
    }

    public synchronized void failed() {
        failures++;
        if (state == State.HALF_OPEN || (state == State.CLOSED && failures >= threshold)) {
            if (state == State.CLOSED) {
                opened++;
            }
            state = State.OPEN;
            openedAt = nanoClock.getAsLong();
        }
    }

    /** A call ended without saying anything of the other end. One that was let through to see has not seen. */
    public synchronized void unknown() {
        if (state == State.HALF_OPEN) {
            failed();
        }
    }

    public synchronized State state() {
        return state;
    }

    /** How often it went from closed to open. */
    public synchronized long opened() {
        return opened;
    }
}
