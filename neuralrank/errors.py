"""Every error that neuralrank raises on purpose.

    NeuralrankError
    ├── InvalidInput            what was given can't be used
    │   ├── InvalidSettings     a setting, a flag or an environment variable
    │   └── InvalidBundle       a model bundle that is damaged or not what its manifest says
    ├── NotFound                a bundle, index, item or file that is not there
    ├── EncoderMismatch         an index holds the vectors of another encoder
    ├── Overloaded              a bounded queue is full; try again later
    ├── DeadlineExceeded        the caller's time is used up
    ├── Unavailable             OpenSearch or the sidecar does not answer
    └── Unsupported             this environment lacks something (JDK, port, disk, native library)

A message says what was received, what is allowed and what to do. `GRPC_STATUS` and `EXIT_CODE` are
the only places where an error becomes a status or an exit code.
"""

from typing import Final

__all__ = [
    "EXIT_CODE",
    "GRPC_STATUS",
    "DeadlineExceeded",
    "EncoderMismatch",
    "InvalidBundle",
    "InvalidInput",
    "InvalidSettings",
    "NeuralrankError",
    "NotFound",
    "Overloaded",
    "Unavailable",
    "Unsupported",
    "exit_code",
    "grpc_status",
]


class NeuralrankError(Exception):
    """Root of the tree; never raised itself."""


class InvalidInput(NeuralrankError):
    """What was given can't be used."""


class InvalidSettings(InvalidInput):
    """A setting, a flag or an environment variable can't be used."""


class InvalidBundle(InvalidInput):
    """A model bundle is damaged or is not what its manifest says."""


class NotFound(NeuralrankError):
    """A bundle, index, item or file that was named is not there."""


class EncoderMismatch(NeuralrankError):
    """An index holds the vectors of another encoder than the one asked for."""


class Overloaded(NeuralrankError):
    """A bounded queue is full; nothing was done; try again later."""


class DeadlineExceeded(NeuralrankError):
    """The caller's time is used up."""


class Unavailable(NeuralrankError):
    """OpenSearch or the sidecar does not answer."""


class Unsupported(NeuralrankError):
    """This environment lacks something that is needed, such as a JDK, a free port or disk space."""


# By name of `grpc.StatusCode`, so that commands need not import grpc.
GRPC_STATUS: Final[dict[type[NeuralrankError], str]] = {
    InvalidInput: "INVALID_ARGUMENT",
    NotFound: "NOT_FOUND",
    EncoderMismatch: "FAILED_PRECONDITION",
    Overloaded: "RESOURCE_EXHAUSTED",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
    Unavailable: "UNAVAILABLE",
    Unsupported: "FAILED_PRECONDITION",
}

# 1 is left to bugs (an uncaught exception) and 2 to wrong usage (typer's own).
EXIT_CODE: Final[dict[type[NeuralrankError], int]] = {
    InvalidInput: 3,
    NotFound: 4,
    Unavailable: 5,
    EncoderMismatch: 6,
    Unsupported: 7,
    Overloaded: 8,
    DeadlineExceeded: 9,
}


def grpc_status(error: NeuralrankError) -> str:
    """The name of the `grpc.StatusCode` for an error, by its nearest class in `GRPC_STATUS`."""
    return next(GRPC_STATUS[kind] for kind in type(error).__mro__ if kind in GRPC_STATUS)


def exit_code(error: NeuralrankError) -> int:
    """The process exit code for an error, by its nearest class in `EXIT_CODE`."""
    return next(EXIT_CODE[kind] for kind in type(error).__mro__ if kind in EXIT_CODE)
