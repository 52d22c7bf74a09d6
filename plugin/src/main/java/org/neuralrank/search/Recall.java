package org.neuralrank.search;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.action.ActionListener;
import org.opensearch.threadpool.Scheduler;
import org.opensearch.threadpool.ThreadPool;

/** The vector leg under way: begun before the caller's query, joined after it. Never fails, at worst it is empty. */
final class Recall {

    private final CompletableFuture<Neighbours> neighbours = new CompletableFuture<>();
    private final long startedAt = System.nanoTime();
    private final long budgetMs;
    private volatile long finishedAt;
    /** What there is already of those that make it up; null: nothing yet. */
    private volatile Neighbours part;

    /** @param budgetMs how long it may take, counted from now */
    Recall(long budgetMs) {
        this.budgetMs = budgetMs;
    }

    /** One that has ended. */
    static Recall of(Neighbours found) {
        Recall recall = new Recall(0);
        recall.complete(found);
        return recall;
    }

    long budgetMs() {
        return budgetMs;
    }

    /** What is left of its time, in ms; 0 or less if none is. */
    long leftMs() {
        return budgetMs - (System.nanoTime() - startedAt) / 1_000_000;
    }

    /** How long it took, or has taken so far, in ms. */
    long spentMs() {
        long until = finishedAt == 0 ? System.nanoTime() : finishedAt;
        return (until - startedAt) / 1_000_000;
    }

    /** Both, taking turns; where one of them is late, the other. */
    Recall with(Recall other) {
        Recall both = new Recall(budgetMs);
        both.follow(List.of(this, other));
        return both;
    }

    /** Completes with all of these, taking turns; where some are late, there are the others. */
    void follow(List<Recall> others) {
        List<CompletableFuture<Neighbours>> all = others.stream().map(one -> one.neighbours).toList();
        for (CompletableFuture<Neighbours> one : all) {
            one.thenRun(
                () -> part = Neighbours.turns(
                    all.stream().filter(CompletableFuture::isDone).map(CompletableFuture::join).toList()
                )
            );
        }
        CompletableFuture.allOf(all.toArray(CompletableFuture[]::new))
            .thenRun(() -> complete(Neighbours.turns(all.stream().map(CompletableFuture::join).toList())));
    }

    void complete(Neighbours found) {
        finishedAt = System.nanoTime();
        neighbours.complete(found);
    }

    /** Calls {@code then} exactly once, in today's thread context: with the result, or without when time is up. */
    void join(Node node, Consumer<Neighbours> then) {
        if (neighbours.isDone()) {
            then.accept(neighbours.join());
            return;
        }
        AtomicBoolean joined = new AtomicBoolean();
        ActionListener<Neighbours> once = node.inThisContext(new ActionListener<>() {
            @Override
            public void onResponse(Neighbours found) {
                if (joined.compareAndSet(false, true)) {
                    then.accept(found);
                }
            }

            @Override
            public void onFailure(Exception error) {
                throw new AssertionError("a vector leg never fails", error);
            }
        });
        ThreadPool pool = node.threadPool();
        Neighbours late = Neighbours.none(
            new Note(Reason.DEADLINE, "the vector leg had not finished after " + budgetMs + " ms")
        );
        Scheduler.ScheduledCancellable alarm = pool.schedule(
            () -> once.onResponse(part == null ? late : Neighbours.turns(List.of(part, late))),
            TimeValue.timeValueMillis(Math.max(0, leftMs())),
            Node.POOL
        );
        neighbours.thenAccept(found -> {
            alarm.cancel();
            once.onResponse(found);
        });
    }
}
