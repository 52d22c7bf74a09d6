package org.neuralrank.sidecar;

import java.util.Locale;
import org.neuralrank.v1.DegradedReason;

/** Why an answer is not the best possible one; the names of the contract's {@code DegradedReason}. */
public enum Reason {
    DEADLINE,
    OVERLOAD,
    NO_USER,
    SIDECAR_UNAVAILABLE,
    BAD_REPLY,
    MODEL_UNAVAILABLE,
    PARTIAL_WINDOW,
    ENCODER_MISMATCH,
    NOT_APPLICABLE,
    FEATURES_UNAVAILABLE,
    /** The sidecar is newer and gave a reason that this plugin does not know. */
    UNKNOWN;

    private static final String PREFIX = "DEGRADED_REASON_";

    /** As it is written in responses and counters. */
    public String key() {
        return name().toLowerCase(Locale.ROOT);
    }

    /** The contract's reason. */
    public static Reason of(DegradedReason reason) {
        if (reason == DegradedReason.UNRECOGNIZED || reason == DegradedReason.DEGRADED_REASON_UNSPECIFIED) {
            return UNKNOWN;
        }
        return valueOf(reason.name().substring(PREFIX.length()));
    }
}
