"""``python -m training.card``: the model card of face_attack, from measured figures and the shipped files alone."""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kyc_guard.attacks import ATTACKS
from kyc_guard.cli import reporting
from kyc_guard.config import Settings, Thresholds
from kyc_guard.errors import ModelError
from kyc_guard.faces.views import VIEWS
from kyc_guard.types import PHYSICAL, SPECIES
from kyc_guard.weights import Weights
from kyc_guard.whole_file import write_whole

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "benchmarks" / "results"
SOURCES = HERE / "configs" / "sources.toml"
MEASURED = ("accuracy", "robustness", "throughput")
DETECTOR = "face_attack"


@reporting(as_json=False)
def main(
    *,
    results: Annotated[Path, typer.Option(help="Folder with accuracy.json, robustness.json and throughput.json.")] = RESULTS,
    weights: Annotated[Path | None, typer.Option(help="Folder with manifest.toml and thresholds.toml.")] = None,
) -> None:
    """Write weights/cards/face_attack.md."""
    folder = weights or Settings().weights_dir
    path = folder / "cards" / f"{DETECTOR}.md"
    write_whole(path, card(results, folder))
    typer.echo(f"{path}: written")


def card(results: Path, weights_dir: Path) -> str:
    """The card as Markdown; what was not measured says which command would.

    Raises:
        ModelError: a figure was measured with other nets or other operating points than those in ``weights_dir``.
        OSError: a file is missing there.
    """
    weights, thresholds = Weights(weights_dir), Thresholds.load(weights_dir / "thresholds.toml")
    names = [name for name in weights.names() if name.startswith(f"{DETECTOR}_")]
    tables = tomllib.loads((weights_dir / "manifest.toml").read_text(encoding="utf-8"))
    figures = {name: _measured(results / f"{name}.json", {n: weights.get(n).sha256 for n in names}) for name in MEASURED}
    accuracy = figures["accuracy"]
    for name, measured in figures.items():
        if measured:
            _demand_same_points(measured, thresholds, results / f"{name}.json")
    table = thresholds.table(DETECTOR)
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            nets=[{"name": name, **{k: tables[name].get(k, "") for k in ("version", "sha256", "licence", "command")}} for name in names],
            views=tuple(VIEWS.values()),
            physical=[s for s in SPECIES if s in PHYSICAL],
            digital=[s for s in SPECIES if s not in PHYSICAL],
            points=table.get("points", {}),
            calibration={k: v for k, v in sorted(table.items()) if not isinstance(v, dict)},
            point=accuracy["default_point"] if accuracy else "",
            sources=_sources(accuracy) if accuracy else [],
            unseen=[s["source"] for s in accuracy["sources"] if not s["trained_on"]] if accuracy else [],
            missing_species=sorted(set(SPECIES) - {s["species"] for s in accuracy["species"]}) if accuracy else [],
            trained_simulators=_simulators(held_out=False),
            reserved_simulators=_simulators(held_out=True),
            **figures,
        )
    )


def _environment() -> Environment:
    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - no HTML


def _measured(path: Path, models: Mapping[str, str]) -> dict[str, Any] | None:
    """A result file, if it is there.

    Raises:
        ModelError: it was measured with other files than ``models``.
    """
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, sha256 in models.items():
        if found["about"]["models"].get(name) != sha256:
            raise ModelError(f"{path}: was measured with another {name}. Remedy: run {found['command']}")
    return found


def _demand_same_points(measured: Mapping[str, Any], thresholds: Thresholds, path: Path) -> None:
    """Every threshold a result file was measured at: `accuracy.json` names several, `robustness.json` the default one."""
    used = {name: point["threshold"] for name, point in measured.get("operating_points", {}).items()}
    if "threshold" in measured:
        used[measured["default_point"]] = measured["threshold"]
    for name, threshold in used.items():
        if threshold != thresholds.point(DETECTOR, name):
            raise ModelError(f"{path}: was measured with another operating point {name}. Remedy: run {measured['command']}")


def _simulators(*, held_out: bool) -> list[str]:
    """Names of all that made attacks from faces: the simulators of the package, and training's autoencoders."""
    from training.resynthesis import KINDS, names_of  # torch takes seconds to import

    made = [name for kind, how in KINDS.items() if how.held_out == held_out for name in names_of(kind)]
    return [*(a.name for a in ATTACKS if a.held_out == held_out), *made]


def _sources(accuracy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a source of the manifest: what it is, its terms, and how many rows were trained on and judged."""
    stated = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for row in accuracy["data"]:
        counts[row["source"], row["split"], row["label"]] += row["n"]

    def of(source: str, split: str) -> dict[str, int]:
        return {label: counts[source, split, label] for label in ("bona_fide", "attack")}

    return [
        {
            "name": name,
            **stated.get(name, {"what": "", "licence": "unknown"}),
            "train": of(name, "train"),
            "judged": of(name, accuracy["about"]["split"]),
        }
        for name in sorted({row["source"] for row in accuracy["data"]})
    ]


if __name__ == "__main__":
    typer.run(main)
