"""What every page shares: pictures inside, no script, no network, readable on a phone and printable."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from kyc_guard.media.encode import jpeg
from kyc_guard.types import UInt8Array

# Okabe and Ito's colours, which colour-blind readers can tell apart; dashes help in print.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")


def render(template: str, **values: Any) -> str:
    """The page of ``content/<template>``; whatever is put into it is escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kyc_guard", "content"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"rate": _rate, "percent": percent, "number": lambda v: "-" if v is None else f"{v:.3f}"}
    return environment


def picture(rgb: UInt8Array) -> str:
    """(H, W, 3) uint8 RGB as a data: URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(rgb, quality=80)).decode()


def plot(figure: Figure) -> str:
    """A figure as a data: URI; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def percent(value: float | None) -> str:
    """A share for human eyes."""
    return "-" if value is None else f"{100 * value:.2f} %"


def in_words(rate: Mapping[str, Any] | None) -> str:
    """A rate with its interval and counts, on one line."""
    if rate is None or rate["value"] is None:
        return "-"
    return f"{percent(rate['value'])} [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}] {rate['errors']}/{rate['n']}"


def _rate(rate: Mapping[str, Any] | None) -> Markup:
    """The interval goes on a second line: a phone shows twice the columns."""
    value, bracket, rest = in_words(rate).partition(" [")
    return Markup("{}<small>{}</small>").format(value, bracket.strip() + rest)
