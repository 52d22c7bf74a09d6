"""What serving and indexing must never load."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["sidecar.main", "indexer", "opensearch_config", "neuralrank.cli.commands"]
)
def test_serving_and_indexing_import_neither_torch_nor_the_hub(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'scipy', 'opentelemetry'}; "
        "heavy &= set(sys.modules); "
        "sys.exit(f'loads {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
