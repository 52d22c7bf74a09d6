package org.neuralrank.search;

import org.neuralrank.sidecar.Note;
import org.neuralrank.sidecar.Reason;
import org.opensearch.ExceptionsHelper;
import org.opensearch.core.tasks.TaskCancelledException;

/** What is said of a search of the plugin's own that failed. */
final class FailedSearch {

    private FailedSearch() {}

    /** @param search what it is called */
    static Note note(String search, Exception error) {
        // It ran out of time: where the caller's search was cancelled, nobody reads this.
        Throwable cancelled = ExceptionsHelper.unwrap(error, TaskCancelledException.class);
        if (cancelled != null) {
            return new Note(Reason.DEADLINE, search + " was not finished: " + cancelled.getMessage());
        }
        // OpenSearch's own exception often says no more than that shards failed, or nothing.
        Throwable cause = error.getCause() == null ? error : error.getCause();
        return new Note(Reason.FEATURES_UNAVAILABLE, search + " failed: " + cause.getMessage());
    }
}
