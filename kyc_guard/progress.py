"""A progress bar on stderr: done, rate, time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

Advance: TypeAlias = Callable[[], None]
"""Called once for each item done."""
Watch: TypeAlias = Callable[[int, int], contextlib.AbstractContextManager[Advance]]
"""Given how many items there are and how many are done already."""


def silent(_total: int, _done: int) -> contextlib.AbstractContextManager[Advance]:
    """No bar: the default of the library functions."""
    return contextlib.nullcontext(lambda: None)


@contextlib.contextmanager
def bar(total: int, done: int, what: str = "judging") -> Iterator[Advance]:
    """A bar that starts at ``done`` of ``total``, the items an earlier run finished; they do not count for the rate."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(), TimeRemainingColumn())
    # Two redraws a second: the bar must not take time from the cores that judge.
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task(what, total=total, completed=done, earlier=done)
        yield lambda: progress.advance(task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished_time is not None else task.elapsed
        count = task.completed - task.fields["earlier"]
        return Text(f"{count / seconds:.1f}/s" if seconds and count else "-/s")
