"""The Helm chart: rendered by helm itself, and held to Kubernetes' schemas and to our settings.

helm is looked for in $HELM, on PATH, and where `make helm` builds it. Without it the values are
held to the chart's schema by jsonschema; what its templates check is then not looked at.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.helm import schema
from neuralrank.errors import InvalidSettings
from neuralrank.models.add import CHINESE
from neuralrank.settings import Settings
from sidecar.settings import SidecarSettings, load_sidecar_settings
from tests.unit.test_monitoring import GROUPS, RECORDED

CHECKOUT = Path(__file__).resolve().parents[2]
CHART = CHECKOUT / "deploy/helm/neuralrank"
BUILT = CHECKOUT / ".neuralrank/tools/helm"
PAGE = (CHECKOUT / "docs/deploying.md").read_text(encoding="utf-8")
HELM = os.environ.get("HELM") or shutil.which("helm") or (str(BUILT) if BUILT.is_file() else "")
KUBERNETES = ("1.30.0", "1.34.0", "1.37.0")
needs_helm = pytest.mark.skipif(not HELM, reason="helm is not installed; `make helm` builds it")

REQUIRED = {
    "opensearch": {"url": "http://opensearch:9200"},
    "registry": {"existingClaim": "models"},
    "insecure": True,
}
FULL = {
    "image": {"tag": "9.9.9", "pullSecrets": [{"name": "pull"}]},
    "cores": 4,
    "opensearch": {
        "url": "https://opensearch:9200",
        "secretName": "os",
        "verifyCerts": False,
        "caSecretName": "os-ca",
    },
    "registry": {"url": "s3://bucket/models"},
    "tls": {"secretName": "tls", "clientCertificates": True},
    "tokensSecretName": "tokens",
    "settings": {
        "deadline_ms": 150,
        "weight_affinity": 0.25,
        "default_encoder": "e5",
        "item_cache_bytes": 536_870_912,
        "reflection": False,
    },
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "traces": {"otlpEndpoint": "http://otel:4317"},
    "autoscaling": {"metric": "cpu", "minReplicas": 3},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "search"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "search", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}
PLAIN = REQUIRED | {
    "autoscaling": {"enabled": False},
    "replicas": 5,
    "networkPolicy": {"enabled": False},
    "disruptionBudget": {"enabled": False},
}
# TLS without certificates for clients.
SECURED = FULL | {"tls": {"secretName": "tls"}}
VALUES = {"required": REQUIRED, "full": FULL, "plain": PLAIN, "secured": SECURED}


def helm(*arguments: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HELM, *arguments, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(values: dict[str, Any]) -> str:
    """What helm says, which must not render these values."""
    run = helm("template", "x", str(CHART), "--kube-version", "1.34.0", values=values)
    assert run.returncode != 0
    return run.stderr


def rendered(values: dict[str, Any], kubernetes: str = "1.34.0") -> dict[str, Any]:
    """The objects by kind; there is one of each."""
    run = helm(
        *("template", "shop", str(CHART), "--namespace", "search", "--kube-version", kubernetes),
        values=values,
    )
    assert run.returncode == 0, run.stderr
    objects = [item for item in yaml.safe_load_all(run.stdout) if item]
    found = {item["kind"]: item for item in objects}
    assert len(found) == len(objects)
    return found


def environment(objects: dict[str, Any]) -> dict[str, Any]:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def documented() -> dict[str, Any]:
    """The values.yaml that docs/deploying.md shows."""
    found: dict[str, Any] = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])
    return found


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As helm lays given values over the chart's."""
    both = {
        name: over(below[name], value)
        if isinstance(value, dict) and isinstance(below.get(name), dict)
        else value
        for name, value in above.items()
    }
    return below | both


def refused_by_schema(values: dict[str, Any]) -> list[str]:
    """What jsonschema finds, as helm does before it renders anything."""
    rules = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(rules)
    known = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    found = jsonschema.Draft7Validator(rules).iter_errors(over(known, values))
    return [f"{problem.json_path}: {problem.message}" for problem in found]


def test_the_chart_knows_the_settings_that_the_sidecar_has() -> None:
    rules = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = json.loads((CHART / "settings.json").read_text(encoding="utf-8"))
    again = "write them anew: python -m deploy.helm.schema"
    assert rules["properties"]["settings"] == schema.schema_of_settings(), again
    assert known == schema.known_settings(), again
    # What the checks of the templates take for granted.
    assert all("maximum" in limits for limits in known["fractions"].values())


@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_the_schema_accepts_what_is_meant_to_be_given(values: dict[str, Any]) -> None:
    assert refused_by_schema(values) == []
    assert refused_by_schema(documented()) == []


# By the schema: settings that the sidecar would not start with, and what is said of them.
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"deadline_mss": 5}, "deadline_mss"),
    "enum": ({"log_level": "loud"}, "log_level"),
    "type": ({"max_reranked": "many"}, "max_reranked"),
    "fraction": ({"deadline_ms": 5.5}, "deadline_ms"),
    "low": ({"max_in_flight": 0}, "max_in_flight"),
    "high": ({"max_busy_percent": 101}, "max_busy_percent"),
    "zero": ({"half_life_days": 0}, "half_life_days"),
    "word": ({"half_life_days": "long"}, "half_life_days"),
    "empty": ({"events_index": ""}, "events_index"),
}
# By the checks of the templates: two that don't go together, and fractions as --set gives them.
APART: dict[str, tuple[dict[str, Any], str]] = {
    "margin": ({"margin_ms": 60}, "settings.margin_ms 60 leaves nothing of deadline_ms 50"),
    "short": ({"deadline_ms": 5}, "settings.margin_ms 8 leaves nothing of deadline_ms 5"),
    "deadline": ({"deadline_ms": 6000}, "settings.deadline_ms 6000 is above max_deadline_ms 5000"),
    "bound": ({"max_deadline_ms": 90}, "http_deadline_ms 5000 is above max_deadline_ms 90"),
    "text": ({"rerank_characters": 2000}, "2000 is above item_text_characters 1000"),
    "burst": ({"caller_burst": 3}, "caller_burst is given without a caller_rate"),
    "weights": (
        {"weight_relevance": 0, "weight_affinity": "0.0", "weight_retrieval": 0},
        "all weights are 0",
    ),
    "high": ({"weight_affinity": "1000.5"}, "settings.weight_affinity is 1000.5"),
    "zero": ({"half_life_days": "0.0"}, "settings.half_life_days is 0"),
}


def refused_by_the_sidecar(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    for name, value in settings.items():
        monkeypatch.setenv(f"NEURALRANK_SIDECAR_{name.upper()}", str(value))
    try:
        load_sidecar_settings()
    except InvalidSettings:
        return True
    return False


@pytest.mark.parametrize(("settings", "words"), UNFIT.values(), ids=list(UNFIT))
def test_settings_that_the_sidecar_refuses_are_refused_by_the_schema(
    settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = refused_by_schema(REQUIRED | {"settings": settings})
    assert words in problem
    assert refused_by_the_sidecar(settings, monkeypatch)
    if HELM:
        assert words in refused(REQUIRED | {"settings": settings})


@pytest.mark.parametrize(("settings", "words"), APART.values(), ids=list(APART))
def test_settings_that_do_not_go_together_are_refused_in_words(
    settings: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused_by_schema(REQUIRED | {"settings": settings}) == []
    assert refused_by_the_sidecar(settings, monkeypatch)
    if not HELM:
        pytest.skip("helm is not installed; `make helm` builds it")
    assert words in refused(REQUIRED | {"settings": settings})


def test_what_the_chart_sets_by_itself_is_named_with_what_to_do_instead() -> None:
    text = (CHART / "templates/checks.yaml").read_text(encoding="utf-8")
    listed = text.partition("$instead := dict")[2].partition("}}")[0]
    assert set(re.findall(r'^ *"(\w+)" "', listed, re.M)) == schema.OWN


def test_the_page_shows_values_that_there_are() -> None:
    known = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for section, values in documented().items():
        assert values.keys() <= known[section].keys(), section


def test_every_secret_of_the_page_is_made_there() -> None:
    values = documented()
    named = {values["opensearch"]["secretName"], values["opensearch"]["caSecretName"]}
    named.add(values["tls"]["secretName"])
    made = re.findall(r"^kubectl create secret \w+ (\S+)", PAGE, re.M)
    assert named == set(made)
    # What the chart reads of each.
    assert "opensearch-ca --from-file=ca.crt=" in PAGE
    assert "--from-literal=user=USER --from-literal=password=" in PAGE


def test_the_page_adds_the_encoder_that_a_chinese_index_gets() -> None:
    (expression,) = re.findall(r"sed '(\S.*)' deploy/registry\.yaml", PAGE)
    done = subprocess.run(
        ["sed", expression, CHECKOUT / "deploy/registry.yaml"],
        capture_output=True,
        text=True,
        check=True,
    )
    _, job = yaml.safe_load_all(done.stdout)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["neuralrank", "models", "add", CHINESE, "--registry", "/models"]
    assert f'"{CHINESE}", --registry, /models]`' in PAGE


def test_the_registry_is_what_the_chart_mounts_and_kubernetes_accepts_it() -> None:
    text = (CHECKOUT / "deploy/registry.yaml").read_text(encoding="utf-8")
    claim, job = yaml.safe_load_all(text)
    for kubernetes in KUBERNETES:
        for item in (claim, job):
            kubernetes_validate.validate(item, kubernetes, strict=True)
    assert claim["metadata"]["name"] == documented()["registry"]["existingClaim"]
    (volume,) = job["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def restricted(pod: dict[str, Any]) -> bool:
    """Whether Kubernetes' Pod Security standard `restricted` lets a pod in, by those of its rules
    that ask for something to be said."""
    said = pod["securityContext"]
    return (
        said["runAsNonRoot"] is True
        and said["runAsUser"] != 0
        and said.get("seccompProfile", {}).get("type") == "RuntimeDefault"
        and all(
            own.get("allowPrivilegeEscalation") is False
            and own.get("capabilities", {}).get("drop") == ["ALL"]
            for own in (container.get("securityContext", {}) for container in pod["containers"])
        )
    )


def test_the_job_that_fills_the_registry_is_let_in_where_the_chart_is() -> None:
    text = (CHECKOUT / "deploy/registry.yaml").read_text(encoding="utf-8")
    _, job = yaml.safe_load_all(text)
    assert restricted(job["spec"]["template"]["spec"])
    if HELM:
        assert restricted(rendered(REQUIRED)["Deployment"]["spec"]["template"]["spec"])


@needs_helm
def test_the_documented_values_are_accepted() -> None:
    assert rendered(documented())["Deployment"]


@needs_helm
@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_kubernetes_accepts_every_object(values: dict[str, Any], kubernetes: str) -> None:
    for kind, item in rendered(values, kubernetes).items():
        # The operator's own kinds; Kubernetes has no schema of them.
        if kind not in ("ServiceMonitor", "PrometheusRule"):
            kubernetes_validate.validate(item, kubernetes, strict=True)


@needs_helm
def test_the_validation_would_find_a_mistake() -> None:
    deployment = rendered(REQUIRED)["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34.0", strict=True)


@needs_helm
def test_helms_own_linter_finds_nothing() -> None:
    run = helm("lint", "--strict", "--kube-version", "1.34.0", str(CHART), values=REQUIRED)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_helm
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_the_sidecar_can_start_with_what_it_is_given(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(rendered(values))
    for prefix, settings in (("NEURALRANK_SIDECAR_", SidecarSettings), ("NEURALRANK_", Settings)):
        names = {name for name in given if name.startswith(prefix)}
        if prefix == "NEURALRANK_":
            names = {name for name in names if not name.startswith("NEURALRANK_SIDECAR_")}
        for name in names:
            assert name.removeprefix(prefix).lower() in settings.model_fields, name
            if given[name] is not None:
                monkeypatch.setenv(name, given[name])
    SidecarSettings()
    Settings()


@needs_helm
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_what_belongs_together_has_one_name(values: dict[str, Any]) -> None:
    objects = rendered(values)
    deployment = objects["Deployment"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    assert objects["Service"]["spec"]["clusterIP"] == "None"
    (container,) = pod["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == ports
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    if "HorizontalPodAutoscaler" in objects:
        target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert target["name"] == deployment["metadata"]["name"]
        # A number here would undo what the autoscaler did, with every upgrade.
        assert "replicas" not in deployment["spec"]
    else:
        assert deployment["spec"]["replicas"] == 5
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = objects.get(kind, {}).get("spec")
        if spec:
            selector = spec.get("selector") or spec["podSelector"]
            assert selector["matchLabels"].items() <= labels.items()


@needs_helm
def test_the_pod_may_do_little_and_has_time_to_end() -> None:
    spec = rendered(REQUIRED)["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    given = environment(rendered(REQUIRED))
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    for seconds in (10, 60):
        objects = rendered(REQUIRED | {"drainSeconds": seconds})
        ending = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert environment(objects)["NEURALRANK_SIDECAR_DRAIN_SECONDS"] == str(seconds)
        assert waits + seconds < ending
    assert given["NEURALRANK_SIDECAR_THREADS"] == container["resources"]["limits"]["cpu"]


@needs_helm
def test_settings_are_written_as_they_were_given() -> None:
    given = environment(rendered(FULL))
    for name, value in FULL["settings"].items():
        assert given[f"NEURALRANK_SIDECAR_{name.upper()}"].lower() == str(value).lower()


@needs_helm
@pytest.mark.parametrize(
    ("values", "how"), [(REQUIRED, "HTTP"), (SECURED, "HTTPS"), (FULL, "command")]
)
def test_models_decide_who_gets_requests_and_the_event_loop_who_is_started_again(
    values: dict[str, Any], how: str
) -> None:
    (container,) = rendered(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    ready, live = container["readinessProbe"], container["livenessProbe"]
    if how == "command":
        assert ready["exec"]["command"] == ["neuralrank-sidecar-check", "ready"]
        assert live["exec"]["command"] == ["neuralrank-sidecar-check", "live"]
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
        assert "neuralrank-sidecar-check" in project["scripts"]
    else:
        for probe, path in ((ready, "/readyz"), (live, "/healthz")):
            assert probe["httpGet"] == {"path": path, "port": "http", "scheme": how}
    # Not by models: a registry that can't be read would end every pod again and again.
    assert container["startupProbe"]["tcpSocket"] == {"port": "grpc"}


@needs_helm
def test_the_autoscaler_asks_for_the_metrics_that_the_adapter_gives() -> None:
    metrics = rendered(REQUIRED)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    adapter = yaml.safe_load((CHECKOUT / "deploy/prometheus/adapter.yml").read_text("utf-8"))
    rules = adapter["rules"]["custom"]
    asked = {
        metric["pods"]["metric"]["name"]: metric["pods"]["target"]["averageValue"]
        for metric in metrics
    }
    assert set(asked) == {rule["name"]["as"] for rule in rules}
    assert {rule["seriesQuery"] for rule in rules} <= RECORDED
    # Replicas are added before requests are refused.
    busy = int(asked["neuralrank_busy_ratio_avg1m"].removesuffix("m")) / 10
    assert 1.1 * busy < SidecarSettings().max_busy_percent
    (metric,) = rendered(FULL)["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["resource"]["name"] == "cpu"


@needs_helm
def test_the_rules_reach_prometheus_as_they_are_in_their_file() -> None:
    objects = rendered(FULL)
    assert objects["PrometheusRule"]["spec"] == {"groups": GROUPS}
    for kind in ("PrometheusRule", "ServiceMonitor"):
        assert objects[kind]["metadata"]["labels"]["release"] == "prometheus"
        assert kind not in rendered(REQUIRED)


@needs_helm
def test_prometheus_without_the_operator_finds_the_pods_and_their_port() -> None:
    config = yaml.safe_load((CHECKOUT / "deploy/prometheus/scrape.yml").read_text("utf-8"))
    (scrape,) = config["scrape_configs"]
    (keep,) = (rule for rule in scrape["relabel_configs"] if rule.get("action") == "keep")
    label, port = keep["regex"].split(";")
    assert [name.partition("_pod_")[2] for name in keep["source_labels"]] == [
        "label_app_kubernetes_io_name",
        "container_port_name",
    ]
    pod = rendered(FULL)["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == label
    (container,) = pod["spec"]["containers"]
    (endpoint,) = rendered(FULL)["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["port"] == port
    assert port in {one["name"] for one in container["ports"]}
    assert (endpoint["scheme"], endpoint["interval"]) == ("https", scrape["scrape_interval"])


@needs_helm
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"opensearch": {"url": ""}}, "opensearch.url is empty"),
        ({"registry": {"existingClaim": ""}}, "give one of registry.existingClaim"),
        ({"registry": {"existingClaim": "a", "url": "s3://b"}}, "give one of registry."),
        ({"insecure": False}, "would listen without TLS"),
        ({"tls": {"clientCertificates": True}}, "needs tls.secretName"),
        ({"settings": {"listen": "0.0.0.0:1"}}, "settings.listen is not to be set here: "),
        ({"settings": {"processes": 2}}, "raise replicas, or autoscaling.minReplicas"),
        ({"settings": {"drain_seconds": 2}}, "set drainSeconds"),
        ({"env": [{"name": "NEURALRANK_SIDECAR_DEADLINE_MSS"}]}, "is no setting of the sidecar"),
        ({"autoscaling": {"minReplicas": 30}}, "minReplicas is above"),
        ({"settings": {"max_busy_percent": 50}}, "refused before replicas are added"),
        ({"autoscaling": {"busyPercent": 78}}, "refused before replicas are added"),
        ({"replicaCount": 3}, "replicaCount"),
        ({"autoscaling": {"metric": "memory"}}, "metric"),
    ],
)
def test_what_can_not_work_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    assert words in refused(REQUIRED | change)


@needs_helm
def test_the_command_line_gives_numbers_too() -> None:
    given = "autoscaling.minReplicas=3,settings.weight_affinity=0.25,settings.deadline_ms=60"
    run = helm(
        *("template", "x", str(CHART), "--kube-version", "1.34.0", "--set", given),
        values=REQUIRED,
    )
    assert run.returncode == 0, run.stderr
    assert 'value: "0.25"' in run.stdout


@needs_helm
def test_the_two_percentages_are_compared_where_both_count() -> None:
    rendered(REQUIRED | {"settings": {"max_busy_percent": 50}, "autoscaling": {"metric": "cpu"}})
    rendered(REQUIRED | {"settings": {"max_busy_percent": 50}, "autoscaling": {"enabled": False}})


def test_the_version_is_that_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (CHECKOUT / "pyproject.toml").read_text("utf-8")
