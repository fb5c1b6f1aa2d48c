"""Attack campaigns: submissions that share a face, a background, a clip, a device or a document's layout, as groups with reasons.

Every pair is compared. A *strong* link (the same file, the same clip, the same face, the same background) joins two submissions by
itself; *supporting* ones (device, layout) are shared by honest people too and join only where several of them agree. The groups are
what the links connect. Submissions that declare the same subject are one applicant's own attempts and are not compared.

What was measured of a submission lives in memory alone: no embedding is written anywhere.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kyc_guard import batch, pool
from kyc_guard.config import Policy, Settings
from kyc_guard.documents.ocr import read_text
from kyc_guard.documents.page import find_portrait
from kyc_guard.errors import ConfigError, InputError, SchemaError, UnreadableError
from kyc_guard.faces import track_faces
from kyc_guard.faces.embedding import Embedder, aligned, best_faces
from kyc_guard.forensics import DEVICE_TAGS, clip_distance, frame_prints, software_names
from kyc_guard.media import read_clip, read_image
from kyc_guard.progress import Watch, silent
from kyc_guard.submission import Submission
from kyc_guard.types import Clip, ContainerFacts, FaceTrack, Float32Array, UInt8Array

STRONG = ("file", "clip", "face", "background")
SUPPORTING = ("device", "layout")
MEASURED = ("clip", "face", "background")
"""Kinds whose rate of false links was measured; policy.toml has it."""

_KEYS = (
    *("clip_distance", "clip_false_rate", "face_distance", "face_false_rate", "face_min_px"),
    *("background_likeness", "background_false_rate", "background_min_contrast", "background_min_share"),
    *("layout_tolerance", "layout_share", "layout_min_lines", "supporting_needed"),
)
_GRID = (24, 18)
"""Columns and rows of the background's grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """What can be shared by two submissions; empty where it is not known.

    Attributes:
        files: role -> sha256. prints: (T, 32) uint8, `forensics.frame_prints` of a clip; empty for a photo.
        faces: (K, 128) float32 unit vectors, embeddings of the selfie's best faces.
        background: (18, 24, 3) float32 mean colour of the cells (Lab), NaN where the person is.
        device: what the client declared and the file says, one text.
        layout: (L, 3) float32 left, top and height of lines, as shares of the page.
    """

    id: str
    subject: str | None = None
    outcome: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    prints: UInt8Array = field(default_factory=lambda: np.empty((0, 32), np.uint8))
    faces: Float32Array = field(default_factory=lambda: np.empty((0, 128), np.float32))
    background: Float32Array | None = None
    device: str = ""
    layout: Float32Array = field(default_factory=lambda: np.empty((0, 3), np.float32))


@dataclass(frozen=True, slots=True)
class Link:
    """Why two submissions belong together: ``value`` is the distance or likeness that passed ``limit``."""

    first: str
    second: str
    kind: str
    value: float
    limit: float
    detail: str = ""


# ------------------------------------------------------------------------------------------------------------- measuring


def traits(submission: Submission, settings: Settings, limits: Mapping[str, float], embedder: Embedder) -> Traits:
    """Decode one submission and measure it; ``limits`` is [cluster] of policy.toml.

    Raises:
        InputError: a file cannot be read or passes a limit.
    """
    files: dict[str, str] = {}
    found = Traits(submission.id, submission.subject, files=files)
    if submission.selfie is not None:
        clip = read_clip(submission.selfie, settings.sampling.model_copy(update={"burst_frames": 0}), settings.limits)
        files["selfie"] = clip.facts.sha256
        track = track_faces(clip.frames_rgb, other_face_ratio=1.0)
        best = best_faces(track.faces, min_px=limits["face_min_px"])
        found = replace(
            found,
            prints=frame_prints(clip.frames_rgb) if not clip.is_still else found.prints,
            faces=embedder.embed([aligned(clip.frames_rgb[s.frame], s.face.landmarks_px) for s in best]),
            background=background(clip, track),
            device=_device(submission.device, clip.facts),
        )
    for number, page in enumerate(submission.document, start=1):
        image, facts = read_image(page, settings.limits)
        files[f"document {number}"] = facts.sha256
        if number == 1:
            portrait = find_portrait(image)
            found = replace(found, layout=_layout(image if portrait is None else portrait.upright_rgb))
    return found


def background(clip: Clip, track: FaceTrack) -> Float32Array | None:
    """(18, 24, 3) float32 Lab, the median over the frames; NaN where the person is in any of them. ``None`` without a face."""
    if not track.found:
        return None
    columns, rows = _GRID
    height, width = clip.frames_rgb.shape[1:3]
    person = np.zeros((rows, columns), bool)
    x, y = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    for face in (track.faces[i] for i in track.found):
        assert face is not None
        x0, y0, x1, y1 = (float(v) for v in face.box_xyxy)
        centre, reach = (x0 + x1) / 2, x1 - x0
        # Hair reaches beyond the mesh by half a face; shoulders are three faces wide.
        head = (np.abs(x - centre) < 0.9 * reach)[None] & (y > y0 - 0.6 * (y1 - y0))[:, None]
        body = (np.abs(x - centre) < 1.6 * reach)[None] & (y > y1 - 0.2 * (y1 - y0))[:, None]
        person |= head | body
    small = np.stack([cv2.resize(frame, _GRID, interpolation=cv2.INTER_AREA) for frame in clip.frames_rgb])
    middle = np.median(small, axis=0).astype(np.float32) / np.float32(255)
    lab: Float32Array = cv2.cvtColor(middle, cv2.COLOR_RGB2LAB)
    lab[person] = np.nan
    return lab


def _device(declared: Mapping[str, Any], facts: ContainerFacts) -> str:
    """What the client declared and what the file says of the camera and the encoder; empty when nothing was declared."""
    said = [f"{key}={declared[key]}" for key in ("platform", "model", "camera", "width_px", "height_px", "fps") if key in declared]
    if not said:
        return ""
    video = next((s for s in facts.streams if s.kind == "video"), None)
    tags = [facts.tags[name] for names in DEVICE_TAGS.values() for name in names if name in facts.tags]
    stream = [f"{video.codec} {video.profile} {video.width_px}x{video.height_px}"] if video is not None else []
    return "; ".join((*said, *stream, *tags, *(name[:40] for names in software_names(facts) for name in names)))


def _layout(page_rgb: UInt8Array) -> Float32Array:
    height, width = page_rgb.shape[:2]
    boxes = [line.box_xyxy / (width, height, width, height) for line in read_text(page_rgb)]
    return np.array([(x0, y0, y1 - y0) for x0, y0, _, y1 in boxes], np.float32).reshape(-1, 3)


# ------------------------------------------------------------------------------------------------------------- comparing


def likeness(a: Float32Array, b: Float32Array, *, min_contrast: float, min_share: float) -> float | None:
    """Correlation of two backgrounds' edges over the cells both show, the best of nine shifts by a cell.

    ``None`` where too little is seen of both (``min_share`` of the grid) or it is too plain: a white wall is nobody's. Edges, not
    colours: a camera's exposure and white balance change from minute to minute.
    """
    best: float | None = None
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        one = a[max(0, dy) : a.shape[0] + min(0, dy), max(0, dx) : a.shape[1] + min(0, dx)]
        two = b[max(0, -dy) : b.shape[0] + min(0, -dy), max(0, -dx) : b.shape[1] + min(0, -dx)]
        edges = [np.stack([np.concatenate([np.diff(g, axis=axis).ravel() for axis in (0, 1)]) for g in (one, two)])]
        both = edges[0][:, np.isfinite(edges[0]).all(axis=0)]
        if both.shape[1] < min_share * 6 * a.shape[0] * a.shape[1]:
            continue
        power = (both * both).mean(axis=1)
        if np.sqrt(power.min()) < min_contrast:
            continue
        value = float((both[0] * both[1]).mean() / np.sqrt(power.prod()))
        best = value if best is None else max(best, value)
    return best


def face_distance(a: Float32Array, b: Float32Array) -> float:
    """Median distance over all pairs of (K, 128) and (L, 128) embeddings."""
    return float(np.median(np.linalg.norm(a[:, None] - b[None], axis=2)))


def layout_share(a: Float32Array, b: Float32Array, tolerance: float) -> float:
    """Share of the lines of the fuller page that have their like on the other: left, top and height within ``tolerance`` of the page."""
    near = (np.abs(a[:, None] - b[None]) <= tolerance).all(axis=2)
    return float(min(near.any(axis=0).sum(), near.any(axis=1).sum()) / max(len(a), len(b), 1))


def compare(a: Traits, b: Traits, limits: Mapping[str, float]) -> Iterator[Link | str]:
    """The links of two submissions, and the kind of every measured comparison that was made, linked or not."""
    if shared := sorted({f"{x} = {y}" for x, p in a.files.items() for y, q in b.files.items() if p == q}):
        yield Link(a.id, b.id, "file", 1.0, 1.0, ", ".join(shared))
    if len(a.prints) and len(b.prints):
        yield "clip"
        if (apart := clip_distance(a.prints, b.prints)) <= limits["clip_distance"]:
            yield Link(a.id, b.id, "clip", apart, limits["clip_distance"])
    if len(a.faces) and len(b.faces):
        yield "face"
        if (apart := face_distance(a.faces, b.faces)) <= limits["face_distance"]:
            yield Link(a.id, b.id, "face", apart, limits["face_distance"])
    if a.background is not None and b.background is not None:
        gates = {"min_contrast": limits["background_min_contrast"], "min_share": limits["background_min_share"]}
        if (alike := likeness(a.background, b.background, **gates)) is not None:
            yield "background"
            if alike >= limits["background_likeness"]:
                yield Link(a.id, b.id, "background", alike, limits["background_likeness"])
    if a.device and a.device == b.device:
        yield Link(a.id, b.id, "device", 1.0, 1.0, a.device)
    if min(len(a.layout), len(b.layout)) >= limits["layout_min_lines"]:
        alike = layout_share(a.layout, b.layout, limits["layout_tolerance"])
        if alike >= limits["layout_share"]:
            yield Link(a.id, b.id, "layout", alike, limits["layout_share"])


def campaigns(found: Sequence[Traits], limits: Mapping[str, float]) -> dict[str, Any]:
    """Compare every pair and group what is linked; the report as in ``--json``."""
    compared = dict.fromkeys(MEASURED, 0)
    links: list[Link] = []
    for a, b in itertools.combinations(found, 2):
        if a.subject is not None and a.subject == b.subject:
            continue
        here: list[Link] = []
        for answer in compare(a, b, limits):
            if isinstance(answer, Link):
                here.append(answer)
            else:
                compared[answer] += 1
        if any(link.kind in STRONG for link in here) or len(here) >= limits["supporting_needed"]:
            links += here
    outcomes = {one.id: one.outcome for one in found}
    expected = {
        kind: {
            "compared": n,
            "false_rate": limits[f"{kind}_false_rate"],
            "expected_false_links": n * limits[f"{kind}_false_rate"],
            "per_new_submission": max(0, len(found) - 1) * limits[f"{kind}_false_rate"],
        }
        for kind, n in compared.items()
    }
    groups = [_group(members, links, outcomes) for members in _joined([one.id for one in found], links)]
    return {"submissions": len(found), "groups": sorted(groups, key=lambda g: (-g["size"], g["members"][0]["id"])), "chance": expected}


def _joined(ids: Iterable[str], links: Iterable[Link]) -> list[list[str]]:
    """The connected parts of two members and more (union-find)."""
    parent = {name: name for name in ids}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for link in links:
        parent[root(link.second)] = root(link.first)
    parts: dict[str, list[str]] = {}
    for name in parent:
        parts.setdefault(root(name), []).append(name)
    return [part for part in parts.values() if len(part) > 1]


def _group(members: Sequence[str], links: Sequence[Link], outcomes: Mapping[str, str | None]) -> dict[str, Any]:
    mine = [link for link in links if link.first in members]
    pairs = {frozenset((link.first, link.second)) for link in mine}
    return {
        "size": len(members),
        "members": [{"id": name, "outcome": outcomes[name]} for name in members],
        # 1 where everybody is linked to everybody; a low share is a chain, whose ends may have nothing in common.
        "share_of_pairs_linked": len(pairs) / (len(members) * (len(members) - 1) / 2),
        "kinds": {kind: n for kind in (*STRONG, *SUPPORTING) if (n := sum(link.kind == kind for link in mine))},
        "links": [asdict(link) for link in mine],
    }


# --------------------------------------------------------------------------------------------------------------- running


def run(
    sources: Sequence[Path],
    *,
    settings: Settings | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
    progress: Watch = silent,
) -> dict[str, Any]:
    """Find the campaigns among submissions.

    Args:
        sources: folders and manifests as `batch.run` takes them, and its result files. A result line gives what it holds (file hashes,
            device, outcome); of an id that also stands in a folder it adds the outcome.

    Raises:
        InputError: a source cannot be read, or nothing was found. ConfigError: policy.toml lacks [cluster].
    """
    settings = settings or Settings()
    limits = _limits(Policy.load(settings.policy_path))
    known: dict[str, Traits] = {}
    errors: list[dict[str, str]] = []
    to_measure: dict[str, Submission] = {}
    for source in sources:
        if _is_results(source):
            known |= {one.id: one for one in _from_results(source)}
            continue
        for name, submission in batch.submissions(source):
            if isinstance(submission, InputError):
                errors.append({"submission": name, "error": str(submission)})
            elif name in to_measure:
                errors.append({"submission": name, "error": f"{source}: another source names this id too. Remedy: give unique ids"})
            else:
                to_measure[name] = submission
    if to_measure:
        work, tasks = _Measure(settings, limits), map(_task, to_measure.values())
        results = pool.run(work, tasks, workers=workers or pool.default_workers(), timeout_s=timeout_s, ordered=True)
        with contextlib.closing(results), progress(len(to_measure), 0) as advance:
            for task, answer in results:
                if isinstance(answer, Traits):
                    earlier = known.get(answer.id)
                    known[answer.id] = answer if earlier is None else replace(answer, outcome=earlier.outcome)
                else:
                    errors.append({"submission": task["id"], "error": answer.detail if isinstance(answer, pool.Failure) else answer})
                advance()
    if not known and not errors:
        raise SchemaError(str(sources[0] if sources else "nothing"), "holds no submission", "name folders of submissions or result files")
    return {**campaigns([known[name] for name in sorted(known)], limits), "errors": errors}


def _limits(policy: Policy) -> Mapping[str, float]:
    missing = [key for key in _KEYS if key not in policy.cluster]
    if missing:
        raise ConfigError(f"policy.toml: [cluster] lacks {missing[0]}")
    return policy.cluster


def _task(sent: Submission) -> dict[str, Any]:
    # Mapping proxies cannot be sent to another process.
    return {"id": sent.id, "selfie": sent.selfie, "document": sent.document, "subject": sent.subject, "device": dict(sent.device)}


@dataclass(frozen=True, slots=True)
class _Measure:
    settings: Settings
    limits: Mapping[str, float]

    def __call__(self) -> Callable[[dict[str, Any]], Traits | str]:
        cv2.setNumThreads(1)
        embedder = Embedder.load(self.settings.weights_dir)

        def measure(task: dict[str, Any]) -> Traits | str:
            try:
                return traits(Submission(**task), self.settings, self.limits, embedder)
            except InputError as error:
                return str(error)

        return measure


def _is_results(source: Path) -> bool:
    if source.suffix.lower() != ".jsonl" or not source.is_file():
        return False
    with source.open("rb") as file:
        return file.readline().startswith(b'{"submission": ')


def _from_results(path: Path) -> Iterator[Traits]:
    """What the lines of a result file hold; error lines hold nothing."""
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            row = json.loads(line)
            if row["outcome"] != batch.ERROR:
                device = "; ".join(f"{key}={value}" for key, value in row.get("device", {}).items())
                yield Traits(row["submission"], outcome=row["outcome"], files=dict(row["inputs"]), device=device)
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(path, f"cannot be read ({error})", "name a result file of kyc-guard batch") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(path, f"line {number} is no result line", "name a result file of kyc-guard batch") from error
