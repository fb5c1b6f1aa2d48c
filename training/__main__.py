"""``python -m training COMMAND``: the steps from the shared data to shipped weights, each resumable."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.places import CACHE, CONFIGS, DATA, RESULTS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Data = Annotated[Path, typer.Option(help="The folder with manifest.csv.")]
Cache = Annotated[Path, typer.Option(help="Where decoded chips, checkpoints and scores are kept; outside the repository.")]
Part = Annotated[str, typer.Option(help="k/n: do only every n-th shard from k on, to share the work between processes.")]


def _part(text: str) -> tuple[int, int]:
    k, n = text.split("/")
    return int(k), int(n)


@app.command()
def chips(data: Data = DATA, cache: Cache = CACHE, part: Part = "0/1") -> None:
    """Cut every face of the manifest into chips."""
    from training.data import build_real_chips

    build_real_chips(data, cache, _part(part))


@app.command()
def resynthesis(name: Annotated[str, typer.Argument(help="One of training.resynthesis.KINDS.")], cache: Cache = CACHE) -> None:
    """Fit one of the autoencoders whose pictures go into the bank."""
    import torch

    from training.resynthesis import train as run

    torch.set_num_threads(1)
    run(cache, name)


@app.command()
def bank(cache: Cache = CACHE, part: Part = "0/1", variants: float = 0.8) -> None:
    """Make simulated attacks from the bona fide chips."""
    from kyc_guard.attacks import ATTACKS
    from training.bank import build_bank
    from training.resynthesis import attacks

    build_bank(cache, (*ATTACKS, *attacks(cache)), variants=variants, part=_part(part))


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A file of training/configs.")],
    *,
    cache: Cache = CACHE,
    name: Annotated[str, typer.Option(help="Folder of this run under CACHE/runs; the config's name unless given.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="Leave this source out (repeatable).")] = None,
    pairs: Annotated[int | None, typer.Option(help="One cycle of this many pairs instead of the config's cycles.")] = None,
    resume: bool = True,
) -> None:
    """Train one net."""
    import torch

    from training.train import Config
    from training.train import train as run

    if (exclude or pairs) and not name:
        raise typer.BadParameter("a training other than the config's own needs a --name, or it would take the place of what ships")
    torch.set_num_threads(1)
    settings = replace(Config.load(config), exclude=tuple(exclude or ()))
    if pairs:
        settings = settings.shortened(pairs)
    run(settings, cache, cache / "runs" / (name or config.stem), resume=resume)


@app.command()
def report(
    config: Annotated[Path, typer.Argument(help="The config the run was made with.")],
    cache: Cache = CACHE,
    name: Annotated[str, typer.Option(help="Folder of the run under CACHE/runs.")] = "",
    split: str = "validation",
) -> None:
    """Print what a trained net reaches on one split: AUC per species and source, bona fide refused at logit 0."""
    import json

    import torch

    from kyc_guard.faces.views import VIEWS
    from training.chips import ChipStore
    from training.evaluate import score_split, summary
    from training.train import Config, trained

    torch.set_num_threads(1)
    run, settings = cache / "runs" / (name or config.stem), Config.load(config)
    rows, logits = score_split(trained(run, settings), VIEWS[settings.view], (ChipStore(cache / "real"), ChipStore(cache / "bank")), split)
    typer.echo(json.dumps({k: round(v, 4) for k, v in summary(rows, logits).items()}, indent=1))


@app.command()
def ship(
    cache: Cache = CACHE,
    runs: Annotated[
        list[str] | None, typer.Option(help="view=run: which run of CACHE/runs to ship for a view, if not its own name.")
    ] = None,
) -> None:
    """Export the nets, calibrate them together, and write weights/: ONNX files, manifest, thresholds."""
    from training.ship import ship as run

    run(cache, dict(r.split("=", 1) for r in runs or ()))


@app.command("leave-out")
def leave_out(
    cache: Cache = CACHE,
    runs: Annotated[list[str] | None, typer.Option(help="view=run: the full nets, for sources they never saw.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = RESULTS / "loso.json",
) -> None:
    """Train without each fold of sources in turn and judge what was left out; finished trainings are not done again."""
    from training.leave_out import Plan, judge, run_name

    plan = Plan.load(CONFIGS / "leave_out.toml")
    for fold in plan.folds:
        excluded = [part for source in fold for part in ("--exclude", source)]
        names = {view: run_name(fold, view) for view in plan.pairs}
        waiting = {view: name for view, name in names.items() if not (cache / "runs" / name / "net.pt").exists()}
        common = ["--cache", str(cache), *excluded]
        _side_by_side(
            [["train", str(CONFIGS / f"{v}.toml"), "--name", name, "--pairs", str(plan.pairs[v]), *common] for v, name in waiting.items()]
        )
    judge(cache, plan, {view: view for view in plan.pairs} | dict(r.split("=", 1) for r in runs or ()), out)


@app.command()
def ablate(
    view: Annotated[str, typer.Argument(help="face or patch.")],
    cache: Cache = CACHE,
    results: Annotated[Path, typer.Option(help="Folder the figures go to, as ablation_VIEW.json.")] = RESULTS,
) -> None:
    """Train a view's ablations, short and one after the other, and judge them on the validation split."""
    import torch

    from training.ablation import run

    torch.set_num_threads(1)
    run(cache, view, results / f"ablation_{view}.json")


@app.command()
def audit(data: Data = DATA, cache: Cache = CACHE) -> None:
    """Print what brightness, sharpness, colour and file size alone achieve on each source."""
    from training.audit import audit as run

    for line in run(data, cache):
        typer.echo(
            "{source:28} {attacks:4} / {bona_fide:4}, {people:3} people: {best_statistic} {best_auc}, together {together_auc}".format(
                **line
            )
        )


@app.command()
def gallery(out: Annotated[Path, typer.Argument(help="PNG to write.")], cache: Cache = CACHE, seed: int = 0, faces: int = 6) -> None:
    """Render a contact sheet: every simulator on a few training faces. It shows real people: keep it on this machine."""
    from kyc_guard.attacks import ATTACKS
    from training.bank import render_gallery
    from training.resynthesis import attacks

    render_gallery(cache, (*ATTACKS, *attacks(cache)), out, seed=seed, faces=faces)


@app.command("all")
def everything(data: Data = DATA, cache: Cache = CACHE) -> None:
    """Every step in order, two processes side by side; what an interrupted run finished is not done again."""
    both = [["--part", "0/2"], ["--part", "1/2"]]
    _side_by_side([["chips", "--data", str(data), "--cache", str(cache), *part] for part in both])
    for names in (["nearest", "transposed"], ["shuffle"]):
        _side_by_side([["resynthesis", name, "--cache", str(cache)] for name in names])
    _side_by_side([["bank", "--cache", str(cache), *part] for part in both])
    _side_by_side([["train", str(CONFIGS / f"{view}.toml"), "--cache", str(cache)] for view in ("face", "patch")])
    _side_by_side([["ship", "--cache", str(cache)]])
    subprocess.run([sys.executable, "-m", "training.document_portraits", "--cache", str(cache)], check=True)


def _side_by_side(commands: list[list[str]]) -> None:
    """Run these commands of ours at once, one thread each; stop at the first that fails."""
    running = [subprocess.Popen([sys.executable, "-m", "training", *c], env=os.environ | {"OMP_NUM_THREADS": "1"}) for c in commands]
    try:
        for process in running:
            if code := process.wait():
                raise typer.Exit(code)
    finally:
        for process in running:
            process.terminate()


if __name__ == "__main__":
    app()
