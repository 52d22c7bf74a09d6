"""The sidecar's choice of a backend reaches what loads bundles, and what falls back is counted."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from neuralrank.backends.choice import Choice
from neuralrank.backends.tensorrt import driver
from neuralrank.bundles.bundle import Bundle
from neuralrank.bundles.registry import Registry
from neuralrank.errors import InvalidSettings, Unsupported
from neuralrank.settings import Settings
from sidecar.models import loading
from sidecar.models.follower import Models
from sidecar.server import Sidecar
from sidecar.settings import SidecarSettings, load_sidecar_settings
from sidecar.telemetry.metrics import Metrics
from tests.unit.backends.test_load import Machine, machine  # noqa: F401
from tests.unit.conftest import tiny_bundle
from tests.unit.sidecar.parts import ONE_CORE


def no_driver() -> driver.Driver:
    raise Unsupported("no NVIDIA driver here")


async def test_a_missing_gpu_is_counted_and_the_bundle_serves(
    tmp_path: Path, encoder_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "open_driver", no_driver)
    (tmp_path / "registry").mkdir()
    registry = Registry(str(tmp_path / "registry"))
    registry.publish(encoder_bundle)
    metrics = Metrics()
    choice = Choice("tensorrt", on_fallback=metrics.backend_fallback)
    models = Models(registry, share=ONE_CORE, choice=choice)
    await models.refresh()
    (status,) = models.statuses
    assert (status.backend, status.reason) == ("onnxruntime-cpu", "")
    counted = metrics.registry.get_sample_value(
        "neuralrank_backend_fallbacks_total", {"reason": "unavailable"}
    )
    assert counted == 1
    models.close()


def test_the_first_estimate_is_of_a_warm_run(
    machine: Machine,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU two callers take turns, and the first run of each captures a graph."""
    registry = Registry(str(tmp_path))
    ref = registry.publish(tiny_bundle(tmp_path / "bundle", "cross_encoder")).ref
    choice = machine.choice()

    def clock() -> float:
        return machine.trt.contexts + 0.001 * machine.libcuda.launches

    monkeypatch.setattr(loading, "time", SimpleNamespace(perf_counter=clock, time=lambda: 0.0))
    loaded = loading.load_bundle(registry, ref, ONE_CORE, choice)
    assert loaded.cross_encoder is not None
    pairs = loading._warm_pairs(loaded.cross_encoder)
    assert loaded.cost.estimate(sum(map(len, pairs))) == pytest.approx(0.001)


async def test_the_settings_make_the_choice(tmp_path: Path) -> None:
    settings = SidecarSettings(backend="tensorrt", gpu_precision="bf16", engine_bytes=2**20)
    sidecar = Sidecar(settings, Settings(home=tmp_path))
    choice = sidecar.models._choice
    assert choice is not None
    assert (choice.backend, choice.precision) == ("tensorrt", "bf16")
    assert (choice.engines, choice.engine_bytes) == (tmp_path / "engines", 2**20)
    assert choice.on_fallback == sidecar.metrics.backend_fallback
    await sidecar.stop()


def test_the_default_probes_and_what_there_is_not_is_refused() -> None:
    assert load_sidecar_settings().backend == "auto"
    with pytest.raises(InvalidSettings, match="NEURALRANK_SIDECAR_BACKEND: got 'cuda'"):
        load_sidecar_settings(backend="cuda")
    with pytest.raises(InvalidSettings, match="GPU_PRECISION"):
        load_sidecar_settings(gpu_precision="int4")
