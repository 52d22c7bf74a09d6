"""Every error that neuralrank raises on purpose.

    NeuralrankError
    ├── InvalidInput            what was given can't be used
    │   ├── InvalidSettings     a setting, a flag or an environment variable
    │   ├── InvalidBundle       a model bundle that is damaged or not what its manifest says
    │   └── Diverged            a training whose loss is no number any more
    ├── NotFound                a bundle, index, item or file that is not there
    ├── EncoderMismatch         an index holds the vectors of another encoder
    ├── Unauthenticated         who asks did not show who they are, or not with a valid secret
    ├── Overloaded              a bounded queue is full; try again later
    │   └── RateExceeded        this caller asked for more than it is allowed; others are served
    ├── DeadlineExceeded        the caller's time is used up
    ├── Unavailable             OpenSearch or the sidecar does not answer
    └── Unsupported             this environment lacks something (JDK, port, disk, native library)
        └── OutOfMemory         a GPU's memory is used up just now

A message says what was received, what is allowed and what to do. `GRPC_STATUS`, `HTTP_STATUS` and
`EXIT_CODE` are the only places where an error becomes a status or an exit code.
"""

from typing import Final

__all__ = [
    "EXIT_CODE",
    "GRPC_STATUS",
    "HTTP_STATUS",
    "DeadlineExceeded",
    "Diverged",
    "EncoderMismatch",
    "InvalidBundle",
    "InvalidInput",
    "InvalidSettings",
    "NeuralrankError",
    "NotFound",
    "OutOfMemory",
    "Overloaded",
    "RateExceeded",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "add_sentence",
    "exit_code",
    "grpc_status",
    "http_status",
]


class NeuralrankError(Exception):
    """Root of the tree; never raised itself."""


class InvalidInput(NeuralrankError):
    """What was given can't be used."""


class InvalidSettings(InvalidInput):
    """A setting, a flag or an environment variable can't be used."""


class InvalidBundle(InvalidInput):
    """A model bundle is damaged or is not what its manifest says."""


class Diverged(InvalidInput):
    """The loss or a gradient of a training is no number any more."""


class NotFound(NeuralrankError):
    """A bundle, index, item or file that was named is not there."""


class EncoderMismatch(NeuralrankError):
    """An index holds the vectors of another encoder than the one asked for."""


class Unauthenticated(NeuralrankError):
    """A token is missing or is not one of those that are allowed."""


class Overloaded(NeuralrankError):
    """A bounded queue is full; nothing was done; try again later."""


class RateExceeded(Overloaded):
    """One caller asked for more than it is allowed; nothing was done, and others are served.

    `retry_after` is the seconds after which the same request is allowed again; None where that
    depends on when the caller's other requests end.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(NeuralrankError):
    """The caller's time is used up."""


class Unavailable(NeuralrankError):
    """OpenSearch or the sidecar does not answer."""


class Unsupported(NeuralrankError):
    """This environment lacks something that is needed, such as a JDK, a free port or disk space."""


class OutOfMemory(Unsupported):
    """A GPU's memory is used up just now: unlike its other errors, this one passes."""


# By name of `grpc.StatusCode`, so that commands need not import grpc.
GRPC_STATUS: Final[dict[type[NeuralrankError], str]] = {
    InvalidInput: "INVALID_ARGUMENT",
    NotFound: "NOT_FOUND",
    EncoderMismatch: "FAILED_PRECONDITION",
    Unauthenticated: "UNAUTHENTICATED",
    Overloaded: "RESOURCE_EXHAUSTED",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
    Unavailable: "UNAVAILABLE",
    Unsupported: "FAILED_PRECONDITION",
}

# The same over HTTP. 400 and not 422: the message says what is wrong, whatever kind of wrong it is.
HTTP_STATUS: Final[dict[type[NeuralrankError], int]] = {
    InvalidInput: 400,
    NotFound: 404,
    EncoderMismatch: 409,
    Unauthenticated: 401,
    Overloaded: 429,
    DeadlineExceeded: 504,
    Unavailable: 503,
    Unsupported: 501,
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
    # 10 is `config diff --check`.
    Unauthenticated: 11,
}


def grpc_status(error: NeuralrankError) -> str:
    """The name of the `grpc.StatusCode` for an error, by its nearest class in `GRPC_STATUS`."""
    return next(GRPC_STATUS[kind] for kind in type(error).__mro__ if kind in GRPC_STATUS)


def http_status(error: NeuralrankError) -> int:
    """The HTTP status for an error, by its nearest class in `HTTP_STATUS`."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


def exit_code(error: NeuralrankError) -> int:
    """The process exit code for an error, by its nearest class in `EXIT_CODE`."""
    return next(EXIT_CODE[kind] for kind in type(error).__mro__ if kind in EXIT_CODE)


def add_sentence(error: BaseException, sentence: str) -> None:
    """Adds a sentence to an error's message; to a bug's traceback as a note."""
    if isinstance(error, NeuralrankError | KeyboardInterrupt):
        error.args = (" ".join([*map(str, error.args[:1]), sentence]),)
    else:
        error.add_note(sentence)
