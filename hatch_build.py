"""Build hook: generates the Python gRPC stubs from `protos/` into `neuralrank/v1/`.

Runs for wheels and for editable installs (`make setup`), so that the stubs always agree with the
contract and are never edited by hand.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface):
    """Calls protoc on every file below `protos/`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's
        from grpc_tools import protoc

        root = Path(self.root)
        protos = sorted(str(path) for path in (root / "protos").rglob("*.proto"))
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={root / 'protos'}",
                f"--python_out={root}",
                f"--pyi_out={root}",
                f"--grpc_python_out={root}",
                *protos,
            ]
        )
        if status != 0:
            raise RuntimeError(f"protoc failed with status {status} on {', '.join(protos)}")
