package org.neuralrank.search;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.EncodeResponse;
import org.neuralrank.v1.Encoding;
import org.neuralrank.v1.Interest;

/**
 * What the sidecar made vectors of: one of a query, an item or a photo, one for each interest of a user; or the reason
 * why there is none.
 *
 * @param vectors  the one that counts most first; empty if there is none
 * @param likely   ids of items that those who did the same as a user have, likeliest first; empty if nobody knows
 * @param excluded ids of items that the user is not to be shown
 * @param missing  why there is none, in words
 * @param encoder  who made them, as name@hash
 */
record Encoded(
    List<Vector> vectors,
    List<String> likely,
    List<String> excluded,
    String missing,
    String encoder
) {

    /** @param share how much of what is wanted it stands for; of all vectors 1 */
    record Vector(float[] values, double share) {}

    boolean isMissing() {
        return vectors.isEmpty();
    }

    /**
     * Reads a reply to a request with one input.
     *
     * @param dimensions of the index's field, 0 if not known; another length would fail every shard of the search
     * @throws SidecarException if the reply makes no sense
     */
    static Encoded of(EncodeResponse reply, int dimensions) throws SidecarException {
        if (reply.getEncodingsCount() != 1) {
            String detail = "1 vector was asked for, " + reply.getEncodingsCount() + " came";
            throw new SidecarException(Reason.BAD_REPLY, detail);
        }
        Encoding encoding = reply.getEncodings(0);
        List<Vector> vectors = new ArrayList<>();
        // A sidecar that does not tell interests apart yet gives the one vector alone.
        for (Interest interest : encoding.getInterestsList()) {
            if (!(interest.getShare() > 0 && interest.getShare() <= 1.001)) {
                String detail = "an interest has a share of " + interest.getShare();
                throw new SidecarException(Reason.BAD_REPLY, detail);
            }
            vectors.add(new Vector(values(interest.getVector(), reply.getEncoder(), dimensions), interest.getShare()));
        }
        if (vectors.isEmpty() && !encoding.getVector().isEmpty()) {
            vectors.add(new Vector(values(encoding.getVector(), reply.getEncoder(), dimensions), 1));
        }
        return new Encoded(
            List.copyOf(vectors),
            List.copyOf(encoding.getCollaborativeList()),
            List.copyOf(encoding.getExcludedList()),
            encoding.getMissing(),
            reply.getEncoder()
        );
    }

    private static float[] values(ByteString packed, String encoder, int dimensions) throws SidecarException {
        if (packed.size() % Float.BYTES != 0) {
            throw new SidecarException(Reason.BAD_REPLY, "a vector of " + packed.size() + " bytes is not of float32");
        }
        if (dimensions > 0 && packed.size() != dimensions * Float.BYTES) {
            throw new SidecarException(
                Reason.ENCODER_MISMATCH,
                "the encoder " + encoder + " gives " + packed.size() / Float.BYTES + " dimensions, the index holds "
                    + dimensions
            );
        }
        FloatBuffer floats = ByteBuffer.wrap(packed.toByteArray()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        float[] values = new float[floats.remaining()];
        floats.get(values);
        double squares = 0;
        for (float value : values) {
            squares += (double) value * value;
        }
        if (!Double.isFinite(squares) || squares == 0) {
            throw new SidecarException(Reason.BAD_REPLY, "the vector is zero or not finite");
        }
        return values;
    }
}
