"""``python -m benchmarks COMMAND``: the benchmarks; ``python -m benchmarks.accuracy`` and so on run them one by one."""

from __future__ import annotations

import typer

from benchmarks import accuracy, challenge, documents, injection, int8, match, mrz, peers, robustness, scaling, soak, speech, throughput

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help=__doc__)
for module in (accuracy, int8, robustness, peers, throughput, scaling, soak, mrz, documents, injection, challenge, match, speech):
    app.command(module.__name__.rpartition(".")[2])(module.main)

if __name__ == "__main__":
    app()
