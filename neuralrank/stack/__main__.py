"""`python -m neuralrank.stack`: whether this machine has what the local stack needs.

Prints one line for each of Python, JDK and Maven; exit code 7 if something is missing. Parts of it,
and of `neuralrank up`, for the Makefile and the containers:

    java-home                 prints the JDK's folder, for JAVA_HOME
    maven                     prints the Maven command
    models                    adds the default models to an empty registry
    sidecar-health HOST:PORT  exit code 0 only if a sidecar serves there
"""

import platform
import sys

from neuralrank.errors import EXIT_CODE, NeuralrankError, Unavailable, Unsupported, exit_code
from neuralrank.settings import load_settings
from neuralrank.stack.probe import sidecar_status
from neuralrank.stack.ranking import fill_registry
from neuralrank.stack.toolchain import find_jdk, find_maven


def main(arguments: list[str]) -> int:
    """Runs one of the above; the result is the exit code."""
    try:
        match arguments:
            case []:
                return _check()
            case ["java-home"]:
                print(find_jdk().home)
            case ["maven"]:
                print(find_maven())
            case ["models"]:
                fill_registry(load_settings().registry_path, print)
            case ["sidecar-health", address]:
                status = sidecar_status(address)
                print(status)
                return 0 if status == "serving" else EXIT_CODE[Unavailable]
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except NeuralrankError as error:
        print(f"neuralrank: {error}", file=sys.stderr)
        return exit_code(error)
    return 0


def _check() -> int:
    print(f"Python {platform.python_version()}: {sys.prefix}")
    missing = False
    try:
        jdk = find_jdk()
        print(f"JDK {jdk.version}: {jdk.home}")
    except Unsupported as error:
        print(f"missing: {error}", file=sys.stderr)
        missing = True
    try:
        print(f"Maven: {find_maven()}")
    except Unsupported as error:
        print(f"missing: {error}", file=sys.stderr)
        missing = True
    return EXIT_CODE[Unsupported] if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
