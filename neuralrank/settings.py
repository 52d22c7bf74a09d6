"""Where things are: the folder of the local stack, OpenSearch, the sidecar.

One frozen object, read from (first wins) command flags, `NEURALRANK_*` environment variables, and
the state that `neuralrank up` left behind, so that commands find the running stack by themselves.
"""

import json
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from neuralrank.credentials import sign_in
from neuralrank.errors import InvalidSettings

__all__ = ["Settings", "default_home", "load_settings"]


def default_home() -> Path:
    """`.neuralrank` of the checkout that this runs from, else the user's data folder.

    A checkout keeps its own stack, so that two clones never share an OpenSearch node.
    """
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".neuralrank"
    return Path(platformdirs.user_data_dir("neuralrank"))


class Settings(BaseSettings):
    """What every command needs to find the stack."""

    # An empty variable, as ${X:-} makes one, is none: as a home it would be the current folder.
    model_config = SettingsConfigDict(
        env_prefix="NEURALRANK_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    # The local stack's folder: nodes, models, logs, state. Some GB; give it a disk with room.
    home: Path = Field(default_factory=default_home)
    # OpenSearch's address. `neuralrank up` writes the one it started into the state.
    opensearch_url: str = "http://127.0.0.1:9200"
    # For an OpenSearch with security: basic authentication, and whether certificates are checked.
    # User and password may stand in the address; they are taken out of it.
    opensearch_user: str = ""
    opensearch_password: str = Field(default="", repr=False)
    opensearch_verify_certs: bool = True
    # PEM of the authorities that its certificate must come from. Empty: the machine's own.
    opensearch_ca: str = ""
    # The sidecar's gRPC address, host:port. Several: IP addresses with ports, by commas.
    sidecar: str = "127.0.0.1:50051"
    # For a sidecar with TLS: PEM of the authorities that its certificate must come from, or
    # `system` for public ones. Empty: no TLS.
    client_ca: str = ""
    # For one that wants client certificates: PEM files of ours and its key.
    client_certificate: str = ""
    client_key: str = ""
    # For one that wants a token.
    client_token: str = Field(default="", repr=False)
    # Mappings, analyzers, lexical query and pipelines as files. None: those of `opensearch_config`.
    config_folder: Path | None = None
    # The model registry: any path that fsspec understands. Empty: `models` in `home`.
    registry: str = ""

    @model_validator(mode="before")
    @classmethod
    def _signed_in(cls, given: Any) -> Any:
        url = given.get("opensearch_url")
        if not isinstance(url, str):
            return given
        found = sign_in(url)
        own = {"opensearch_user": found.user, "opensearch_password": found.password}
        known = given.get("opensearch_user") or not found.user
        return {**given, **({} if known else own), "opensearch_url": found.address}

    @property
    def item_vectors(self) -> Path:
        """Where the trainer keeps vectors of catalogues, which take long to make."""
        return self.home / "trainer" / "vectors"

    @property
    def registry_path(self) -> str:
        return self.registry or str(self.home / "models")

    @property
    def state_file(self) -> Path:
        """JSON that `neuralrank up` writes: {"opensearch_url", "sidecar", ...}."""
        return self.home / "stack.json"


def load_settings(**flags: Any) -> Settings:
    """Settings from flags (None means not given), environment and the state of `neuralrank up`.

    Raises:
        InvalidSettings: a value can't be used; the message names it.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)
        if settings.state_file.is_file():
            state = json.loads(settings.state_file.read_text())
            if not isinstance(state, dict):
                raise ValueError("no object")
            found = {
                name: state[name]
                for name in ("opensearch_url", "sidecar")
                if name in state and name not in settings.model_fields_set
            }
            settings = Settings(**given, **found)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: got {problem['input']!r}, {problem['msg']}"
            for problem in error.errors()
        )
        raise InvalidSettings(f"Settings can't be used: {problems}.") from error
    except ValueError as error:
        raise InvalidSettings(
            f"{settings.state_file} is not what `neuralrank up` writes ({error}). Delete it and "
            "run `neuralrank up`."
        ) from error
    return settings
