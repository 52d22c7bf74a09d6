/**
 * The OpenSearch plugin of neuralrank. It moves data between a search and the sidecar and never scores.
 *
 * <p>{@code options} reads what callers and pipelines ask for, {@code sidecar} talks gRPC, {@code search} holds the
 * two search pipeline processors. Only {@code sidecar} and the classes that build messages know protobuf types.
 */
package org.neuralrank;
