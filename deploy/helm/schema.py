"""Writes what the Helm chart knows of the sidecar's settings: `python -m deploy.helm.schema`.

helm reads no Python: so `values.schema.json` holds a schema of each setting, which refuses a name,
a type or a value that the sidecar would refuse at its start. `settings.json` has what the checks of
the templates need beside it: what holds where a setting is not given, and the ranges of fractions,
since `--set name=0.5` gives a string, to which a schema knows no range. A test fails where the
files are not what this would write.
"""

import json
from pathlib import Path
from typing import Any, Final

from sidecar.settings import SidecarSettings

__all__ = ["CHART", "OWN", "known_settings", "schema_of_settings"]

CHART: Final = Path(__file__).parent / "neuralrank"

# What the chart sets by itself, or not at all. The schema lets them pass: templates/checks.yaml
# refuses them with what to do instead, where a schema could say "not allowed" only.
OWN: Final = frozenset({"listen", "http_listen", "registry", "tls_certificate", "tls_key",
                        "tls_client_ca", "tokens", "insecure", "threads", "processes",
                        "drain_seconds"})  # fmt: skip
_RANGE: Final = ("minimum", "exclusiveMinimum", "maximum")


def schema_of_settings() -> dict[str, Any]:
    """The schema of the value `settings`."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {} for name in OWN}
        | {name: _rule(field) for name, field in _fields().items()},
    }


def known_settings() -> dict[str, Any]:
    """What the templates' checks read."""
    fields = _fields()
    return {
        "defaults": {name: field["default"] for name, field in fields.items()},
        "fractions": {
            name: {key: field[key] for key in _RANGE if key in field}
            for name, field in fields.items()
            if field["type"] == "number"
        },
    }


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = SidecarSettings.model_json_schema()["properties"]
    return {name: field for name, field in fields.items() if name not in OWN}


def _rule(field: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {
        key: field[key] for key in ("type", "enum", *_RANGE, "minLength") if key in field
    }
    if rule["type"] == "number":
        rule |= {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$"}
    return rule


def _write() -> None:
    """Of the schema `settings` alone; the rest of it is written by hand."""
    file = CHART / "values.schema.json"
    text = file.read_text(encoding="utf-8")
    start = text.index('"settings": ') + len('"settings": ')
    _, end = json.JSONDecoder().raw_decode(text, start)
    schema = schema_of_settings()
    rows = ",\n".join(
        f"        {json.dumps(name)}: {json.dumps(rule)}"
        for name, rule in sorted(schema.pop("properties").items())
    )
    head = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in schema.items())
    written = f'{{\n      {head},\n      "properties": {{\n{rows}\n      }}\n    }}'
    file.write_text(text[:start] + written + text[end:], encoding="utf-8")
    (CHART / "settings.json").write_text(json.dumps(known_settings(), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    _write()
