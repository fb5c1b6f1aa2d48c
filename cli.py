"""Checkout entry: the product's app plus `train` and `bench`, which exist only beside the source."""

from __future__ import annotations

import runpy
import sys

import typer

from kyc_guard.cli import app

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train, calibrate and export the models; the same as `python -m training`."""
    _run("training", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Measure accuracy, robustness and speed of what ships; the same as `python -m benchmarks`."""
    _run("benchmarks", context.args)


def _run(package: str, arguments: list[str]) -> None:
    sys.argv = [package, *arguments]
    runpy.run_module(package, run_name="__main__")


if __name__ == "__main__":
    app()
