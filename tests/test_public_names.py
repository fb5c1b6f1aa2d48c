"""The public face of the package."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import kyc_guard


def test_what_can_be_imported_is_what_all_names() -> None:
    public = {name for name, value in vars(kyc_guard).items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert public == set(kyc_guard.__all__)
    assert kyc_guard.__all__ == sorted(kyc_guard.__all__)


def test_every_error_of_the_tree_is_public() -> None:
    def family(kind: type[Exception]) -> set[str]:
        return {kind.__name__}.union(*(family(k) for k in kind.__subclasses__()))

    assert family(kyc_guard.KycGuardError) <= set(kyc_guard.__all__)


def test_importing_the_package_loads_no_model_runtime_and_no_training() -> None:
    code = "import sys, kyc_guard; print([m for m in ('torch', 'mediapipe', 'training', 'benchmarks') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
