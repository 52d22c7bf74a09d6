"""The containers run what the local stack runs: the same versions and the same node settings."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import yaml

from neuralrank.stack import NODE_SETTINGS, VERSIONS, VERSIONS_FILE
from sidecar.settings import SidecarSettings

CHECKOUT = Path(__file__).resolve().parents[3]
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def known() -> dict[str, str]:
    lines = (line for line in VERSIONS_FILE.read_text().splitlines() if re.match(r"\w+=", line))
    return dict(line.split("=", 1) for line in lines)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CHECKOUT / name).read_text())


def services() -> dict[str, dict[str, Any]]:
    return load("docker/compose.yml")["services"]


def test_compose_reads_its_versions_from_the_local_stacks_file() -> None:
    (included,) = load("docker-compose.yml")["include"]
    assert CHECKOUT / included["env_file"] == VERSIONS_FILE
    assert (CHECKOUT / included["path"]).is_file()
    # Paths in the included file are relative to this, not to its own folder.
    assert included["project_directory"] == "."


def test_every_variable_has_a_value_or_a_default() -> None:
    text = (CHECKOUT / "docker" / "compose.yml").read_text()
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    unset = {name for name, default in VARIABLE.findall(code) if not default} - set(known())
    assert unset == set()


def test_every_variable_that_may_be_set_is_documented() -> None:
    text = (CHECKOUT / "docker" / "compose.yml").read_text()
    page = (CHECKOUT / "docs/commands.md").read_text(encoding="utf-8")
    names = {name for name, default in VARIABLE.findall(text) if default}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_no_version_is_written_twice() -> None:
    for name in ("docker-compose.yml", "docker/compose.yml", "docker/opensearch.Dockerfile"):
        assert VERSIONS.opensearch not in (CHECKOUT / name).read_text(), name


def builds() -> dict[str, dict[str, Any]]:
    """The services that build an image, by its name."""
    made = [service for service in services().values() if "build" in service]
    found = {service["image"]: service for service in made}
    assert len(found) == len(made), "builds that give one name fail side by side"
    return found


def test_an_image_is_built_once_and_by_what_the_others_wait_for() -> None:
    for name, service in services().items():
        builder = builds()[service["image"]]
        if service != builder:
            waited_for = [services()[needed] for needed in service["depends_on"]]
            assert builder in waited_for, name
            assert service["pull_policy"] == "never", name
        else:
            assert service.get("pull_policy", "missing") == "missing", name


def test_every_build_argument_is_given_and_every_copied_file_exists() -> None:
    for service in builds().values():
        dockerfile = (CHECKOUT / service["build"]["dockerfile"]).read_text()
        needed = set(re.findall(r"^ARG (\w+)(?:=.*)?$", dockerfile, re.MULTILINE))
        assert needed == set(service["build"]["args"])
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
            for source in sources.split():
                if not source.startswith("--"):
                    assert (CHECKOUT / source).exists(), source


def test_the_sidecars_image_can_be_built_without_compose() -> None:
    """By `docker build -f docker/sidecar.Dockerfile .`, for the chart: of the same Python."""
    dockerfile = (CHECKOUT / "docker/sidecar.Dockerfile").read_text()
    assert f"\nARG PYTHON_VERSION={known()['PYTHON_VERSION']}\n" in dockerfile


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    for name in ("opensearch", "sidecar"):
        dockerfile = (CHECKOUT / "docker" / f"{name}.Dockerfile").read_text()
        ignored = (CHECKOUT / "docker" / f"{name}.Dockerfile.dockerignore").read_text().split()
        assert "*" in ignored
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
            for source in sources.split():
                if not source.startswith("--"):
                    assert f"!{source.split('/')[0]}" in ignored, source


def test_the_image_has_the_local_nodes_settings_and_all_that_they_leave_open() -> None:
    dockerfile = (CHECKOUT / "docker" / "opensearch.Dockerfile").read_text()
    assert f"{NODE_SETTINGS.relative_to(CHECKOUT)} config/opensearch.yml" in dockerfile
    left_open = {name for name, _ in VARIABLE.findall(NODE_SETTINGS.read_text())}
    assert left_open <= set(services()["opensearch"]["environment"])


def test_services_wait_for_what_they_need_and_say_when_they_are_healthy() -> None:
    all_services = services()
    volumes = load("docker/compose.yml")["volumes"]
    for name, service in all_services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in all_services[needed], (name, needed)
            else:
                assert how["condition"] == "service_completed_successfully"
                # A service that runs once must not be started again.
                assert "restart" not in all_services[needed], (name, needed)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in volumes or (CHECKOUT / source).is_dir(), volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "without passwords, to this machine only"


def test_what_ends_by_itself_is_waited_for_or_started_by_hand() -> None:
    """`docker compose up --wait` exits with 1 for a service that ends and that none waits for."""
    all_services = services()
    awaited = {
        needed
        for service in all_services.values()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    once = {name for name, service in all_services.items() if "restart" not in service}
    by_hand = {
        name for name, service in all_services.items() if "tools" in service.get("profiles", ())
    }
    # In `up`, OpenSearch and the sidecars stay, and all else is awaited.
    assert once - by_hand <= awaited
    assert by_hand == {"indexer"}


def test_the_gpu_service_is_the_sidecar_with_a_gpu_and_only_in_its_profile() -> None:
    sidecar, gpu = services()["sidecar"], services()["sidecar-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert "profiles" not in sidecar
    assert gpu["command"] == sidecar["command"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_gpu_service_has_an_image_with_tensorrt_and_keeps_its_engines() -> None:
    sidecar, gpu = services()["sidecar"], services()["sidecar-gpu"]
    assert gpu["image"] != sidecar["image"]
    plain = builds()[sidecar["image"]]
    assert (plain["build"]["args"]["EXTRAS"], gpu["build"]["args"]["EXTRAS"]) == ("", "[gpu]")
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"]["gpu"] == ["tensorrt"]
    added = {k: v for k, v in gpu["environment"].items() if k not in sidecar["environment"]}
    assert added == {
        "NEURALRANK_SIDECAR_BACKEND": "tensorrt",
        "NEURALRANK_SIDECAR_ENGINES": "/engines",
        "NEURALRANK_SIDECAR_BATCH_TOKENS": "16384",
        "NEURALRANK_SIDECAR_WORKERS": "2",
        "NEURALRANK_SIDECAR_MAX_RERANKED": "100",
    }
    assert sidecar["environment"].items() <= gpu["environment"].items()
    assert {name.removeprefix("NEURALRANK_SIDECAR_").lower() for name in added} <= set(
        SidecarSettings.model_fields
    )
    assert set(gpu["volumes"]) - set(sidecar["volumes"]) == {"engines:/engines"}


def test_the_plugin_is_built_for_these_versions() -> None:
    pom = ElementTree.parse(CHECKOUT / "plugin" / "pom.xml").getroot()
    maven = {"m": "http://maven.apache.org/POM/4.0.0"}
    assert pom.findtext("m:artifactId", namespaces=maven) == "neural-rank"
    properties = {
        name: pom.findtext(f"m:properties/m:{name}", namespaces=maven)
        for name in ("opensearch.version", "revision")
    }
    assert properties == {
        "opensearch.version": known()["OPENSEARCH_VERSION"],
        "revision": "${opensearch.version}.0",
    }
    image = (CHECKOUT / "docker" / "opensearch.Dockerfile").read_text()
    assert "-Dopensearch.version=${OPENSEARCH_VERSION}" in image
    assert "neural-rank-${OPENSEARCH_VERSION}.0.zip" in image
