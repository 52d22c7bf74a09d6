package org.neuralrank.sidecar;

import static org.junit.Assert.assertEquals;

import java.util.concurrent.TimeUnit;
import org.junit.Test;
import org.neuralrank.sidecar.Breaker.Permit;
import org.neuralrank.sidecar.Breaker.State;

public class BreakerTest {

    private long now;
    private final Breaker breaker = new Breaker(() -> now, 3, 1_000);

    private void fail(int times) {
        for (int i = 0; i < times; i++) {
            breaker.acquire();
            breaker.failed();
        }
    }

    private void pass(long ms) {
        now += TimeUnit.MILLISECONDS.toNanos(ms);
    }

    @Test
    public void itOpensAfterFailuresInARowOnly() {
        fail(2);
        breaker.succeeded();
        fail(2);
        assertEquals(Permit.YES, breaker.acquire());
        breaker.failed();
        assertEquals(State.OPEN, breaker.state());
        assertEquals(Permit.NO, breaker.acquire());
        assertEquals(1, breaker.opened());
    }

    @Test
    public void oneProbeDecides() {
        fail(3);
        pass(999);
        assertEquals(Permit.NO, breaker.acquire());
        pass(1);
        assertEquals(Permit.PROBE, breaker.acquire());
        assertEquals("only one goes through", Permit.NO, breaker.acquire());
        breaker.failed();
        assertEquals(State.OPEN, breaker.state());
        pass(1_000);
        assertEquals(Permit.PROBE, breaker.acquire());
        breaker.succeeded();
        assertEquals(Permit.YES, breaker.acquire());
        assertEquals(State.CLOSED, breaker.state());
    }

    @Test
    public void whatSaysNothingChangesNothing() {
        fail(2);
        breaker.unknown();
        assertEquals(Permit.YES, breaker.acquire());
        breaker.failed();
        assertEquals("two before it, one after", State.OPEN, breaker.state());
        pass(1_000);
        assertEquals(Permit.PROBE, breaker.acquire());
        breaker.unknown();
        assertEquals("nothing was seen", Permit.NO, breaker.acquire());
        pass(1_000);
        assertEquals(Permit.PROBE, breaker.acquire());
    }

    @Test
    public void aLostProbeDoesNotKeepItShut() {
        fail(3);
        pass(1_000);
        assertEquals(Permit.PROBE, breaker.acquire());
        pass(1_000);
        assertEquals(Permit.PROBE, breaker.acquire());
    }
}
