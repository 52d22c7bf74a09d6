"""The trainer's tests need the extra `train`; `make test` installs it."""

import importlib.util

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is None:
        reason = "needs torch: `make setup-train`"
        for item in items:
            if "unit/trainer" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=reason))
