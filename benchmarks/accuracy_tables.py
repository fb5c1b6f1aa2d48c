"""The tables of `benchmarks.accuracy`: by family, species and source, and at every operating point.

Of one detector's scores. A clip's score is the mean over its frames and a picture's is of one, so kinds of attack are held against
bona fides of their own medium.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import figures
from benchmarks.record import share
from kyc_guard.reports import metrics
from kyc_guard.reports.presentations import Score, Table
from kyc_guard.types import DIGITAL, PHYSICAL

DETECTOR = "face_attack"
OWN, ALL = "bona fides of the same sources", "all bona fides"
CLIPS = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""Endings of files that are judged as clips."""
_NAMED_AFTER = re.compile(r"(apcer|bpcer)_(\d\d\d?)")
_MEDIA = {(True, False): "clips", (False, True): "pictures", (True, True): "pictures and clips"}
"""Whether there are clips, whether there are pictures -> what to call them."""


def alone(scores: Sequence[Score], detectors: Sequence[str]) -> list[Score]:
    """The scores of face_attack without the other detectors that a clip's fused score is made of."""
    place = detectors.index(DETECTOR)
    return [replace(s, score=s.detectors[place]) for s in scores]


def is_clip(table: Table) -> NDArray[np.bool_]:
    return np.array([PurePosixPath(p).suffix.lower() in CLIPS for p in table.path.tolist()], dtype=bool)


def tables(everything: Table, points: Mapping[str, float], used: dict[str, float], point: str, unseen: frozenset[str]) -> dict[str, Any]:
    """Operating points, families, species, sources and groups.

    Args:
        points: every operating point by name. used: those of policy.toml. point: the one of them below which a presentation passes.
        unseen: the sources nothing was trained on.
    """

    def among(column: NDArray[np.str_], names: frozenset[str] | set[str]) -> NDArray[np.bool_]:
        return np.isin(column, sorted(names))

    def against(attacks: NDArray[np.bool_], bona_fides: NDArray[np.bool_]) -> dict[str, Any]:
        return figures.separation(everything.where(attacks | bona_fides), used)

    def beside(mine: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return among(everything.source, set(everything.source[mine].tolist()))

    attack, bona_fide, clip = everything.is_attack, ~everything.is_attack, is_clip(everything)
    families, species, sources = [], [], []
    for name, kinds in (("physical", PHYSICAL), ("digital", DIGITAL)):
        mine = attack & among(everything.species, kinds)
        new = mine & among(everything.source, unseen)
        clips = int(np.count_nonzero(mine & clip))
        families += [
            {"name": name, "against": OWN, "attack_clips": clips, **against(mine, bona_fide & beside(mine))},
            {"name": name, "against": ALL, "attack_clips": clips, **against(mine, bona_fide)},
            {
                "name": f"{name}, sources not trained on",
                "against": ALL,
                "attack_clips": int(np.count_nonzero(new & clip)),
                **against(new, bona_fide),
            },
        ]
    for name in np.unique(everything.species[attack]).tolist():
        mine = attack & (everything.species == name)
        alike = np.isin(clip, np.unique(clip[mine]))
        own = figures.separation(everything.where(mine | (bona_fide & alike & beside(mine))), {})
        media = _MEDIA[bool(clip[mine].any()), bool((~clip[mine]).any())]
        species.append({"species": name, "media": media, **against(mine, bona_fide & alike), "auc_same_sources": own["auc"]})
    for name in np.unique(everything.source).tolist():
        mine = everything.source == name
        sources.append({"source": name, "trained_on": name not in unseen, **against(attack & mine, bona_fide & mine)})
    new_faces = everything.where(bona_fide & among(everything.source, unseen))
    heard = everything.where(~everything.silent)
    return {
        "points": at_points(everything, points),
        "families": families,
        "species": species,
        "sources": sources,
        "mean_auc_over_sources": figures.mean_of([s["auc"]["value"] for s in sources if s["auc"]]),
        "bona_fides_of_unseen_sources": metrics.bpcer(new_faces.bona_fide, used[point]),
        "groups": figures.differentials(everything, used[point]),
        "reliability": metrics.reliability(heard.scores, heard.is_attack),
    }


def at_points(everything: Table, points: Mapping[str, float]) -> list[dict[str, Any]]:
    """Both error rates at every threshold, and which of its names promises more than was measured.

    Points were set on other people and cameras than those measured here, so a name is a promise that may be broken.

    Returns:
        One entry a threshold, the lowest first: names, threshold, ``physical`` and ``digital`` APCER and ``bona_fide``
        BPCER with exact intervals, ``misses``: a sentence for every name that was not kept.
    """
    names = defaultdict(list)
    for name, threshold in sorted(points.items()):
        names[threshold].append(name)
    found = []
    for threshold, called in sorted(names.items()):
        rates = {
            name: metrics.apcer(everything.where(np.isin(everything.species, sorted(kinds))).attack, threshold)
            for name, kinds in (("physical", PHYSICAL), ("digital", DIGITAL))
        }
        rates["bona_fide"] = metrics.bpcer(everything.bona_fide, threshold)
        found.append({"names": called, "threshold": threshold, **rates, "misses": [m for n in called if (m := _missed(n, rates))]})
    return found


def _missed(name: str, rates: Mapping[str, metrics.Rate]) -> str:
    if not (promise := _NAMED_AFTER.fullmatch(name)):
        return ""
    physical, most = promise[1] == "apcer", int(promise[2]) / 10 ** len(promise[2])  # bpcer_05: 5 %, bpcer_005: half of one
    rate = rates["physical" if physical else "bona_fide"]
    if rate.value is None or rate.low is None or rate.value <= most:
        return ""
    who = "of physical attacks pass" if physical else "of bona fides are refused"
    chance = "" if rate.low > most else "; the interval reaches down to it"
    return f"{name} misses its name here: {share(asdict(rate))} {who}, not {100 * most:g} %{chance}."
