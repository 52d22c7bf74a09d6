package org.neuralrank.sidecar;

/** A call that brought nothing usable. Expected, so it carries no stack trace. */
public final class SidecarException extends Exception {

    private final transient Note note;

    public SidecarException(Reason reason, String detail) {
        super(reason.key() + ": " + detail, null, false, false);
        this.note = new Note(reason, detail);
    }

    public Note note() {
        return note;
    }
}
