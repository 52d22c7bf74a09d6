package org.neuralrank.sidecar;

/**
 * One entry of {@code degraded}.
 *
 * @param reason what kind
 * @param detail in words, for people; no user and item ids
 */
public record Note(Reason reason, String detail) {}
