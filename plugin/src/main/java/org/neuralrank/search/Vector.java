package org.neuralrank.search;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.neuralrank.sidecar.Reason;
import org.neuralrank.sidecar.SidecarException;
import org.neuralrank.v1.EncodeResponse;

/**
 * A vector from the sidecar, or the reason why there is none.
 *
 * @param values  empty if there is none
 * @param missing why there is none, in words
 * @param encoder who made it, as name@hash
 */
record Vector(float[] values, String missing, String encoder) {

    boolean isMissing() {
        return values.length == 0;
    }

    /**
     * Reads a reply to a request with one input.
     *
     * @param dimensions of the index's field, 0 if not known; another length would fail every shard of the search
     * @throws SidecarException if the reply makes no sense
     */
    static Vector of(EncodeResponse reply, int dimensions) throws SidecarException {
        if (reply.getEncodingsCount() != 1) {
            String detail = "1 vector was asked for, " + reply.getEncodingsCount() + " came";
            throw new SidecarException(Reason.BAD_REPLY, detail);
        }
        ByteString packed = reply.getEncodings(0).getVector();
        if (packed.isEmpty()) {
            return new Vector(new float[0], reply.getEncodings(0).getMissing(), reply.getEncoder());
        }
        if (packed.size() % Float.BYTES != 0) {
            throw new SidecarException(Reason.BAD_REPLY, "a vector of " + packed.size() + " bytes is not of float32");
        }
        if (dimensions > 0 && packed.size() != dimensions * Float.BYTES) {
            throw new SidecarException(
                Reason.ENCODER_MISMATCH,
                "the encoder " + reply.getEncoder() + " gives " + packed.size() / Float.BYTES
                    + " dimensions, the index holds " + dimensions
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
        return new Vector(values, "", reply.getEncoder());
    }
}
