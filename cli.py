"""Checkout entry: the product's app plus `train` and `bench`, which exist only beside the source."""

from __future__ import annotations

from kyc_guard.cli import app

if __name__ == "__main__":
    app()
