"""The demo: a folder of submissions built on the spot, judged by `kyc_guard.batch`, shown as a table and a page.

There is no living person in a package. Everything made here from the public-domain portrait of scikit-image is therefore an
attack or unfinished, and says so; living people come from a camera, from the user's own submissions, or from the shared data.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kyc_guard import batch
from kyc_guard.attacks import ATTACKS, FaceImage
from kyc_guard.attacks.clips import CLIP_ATTACKS
from kyc_guard.attacks.document import lay_page
from kyc_guard.attacks.optics import Pose
from kyc_guard.config import Settings
from kyc_guard.documents.specimen import Holder, render, zone
from kyc_guard.errors import InputError, UnreadableError
from kyc_guard.faces import face_finder, face_square, square_crop
from kyc_guard.media import read_clip
from kyc_guard.media.encode import jpeg, mp4, png
from kyc_guard.reports import demo_page
from kyc_guard.submission import Submission
from kyc_guard.types import UInt8Array

HONEST = (
    "Clips made from a still photo are attacks, also the ones made here: nobody in them was in front of a camera. "
    "The demo has no living person of its own; add yourself with --camera 0 or your own files with --submissions DIR."
)
_MARK = "made-by-demo.txt"
_FPS = 25.0
_SECONDS = 3.0
_CLIPS_A_KIND = 3
"""How many clips of real people, and how many real attacks, are taken from the shared data."""
_TABLE = 7
"""Seed of the table, light and camera under which the documents are photographed: one that leaves them easy to read."""


@dataclass(frozen=True, slots=True)
class Case:
    """One submission of the demo.

    Attributes:
        story: what it is, for the reader.
        truth: attack, bona fide, unfinished (an honest person's mistake), or unknown (the user's own).
    """

    id: str
    story: str
    truth: str


def run(
    out: Path,
    settings: Settings,
    *,
    camera: int | None = None,
    own: Path | None = None,
    data: Path | None = None,
    workers: int | None = None,
    **options: Any,
) -> list[demo_page.Shown]:
    """Build, judge and show; writes ``out/submissions``, ``out/results.jsonl``, ``out/own.jsonl`` and ``out/index.html``.

    Args:
        out: made if absent; what an earlier demo wrote there is replaced.
        camera: number of a camera to record the user with. own: a folder of submissions to judge as well.
        data: folder of the shared data; real people's clips are judged where it exists.
        options: handed to `batch.run`.

    Raises:
        InputError: no such camera, or ``own`` cannot be read.
    """
    built, results, own_results = out / "submissions", out / "results.jsonl", out / "own.jsonl"
    for earlier in (results, own_results):
        earlier.unlink(missing_ok=True)
    _clear(built)
    cases = build(built, camera=camera, data=data)
    batch.run(built, results, settings=settings, workers=workers, **options)
    shown = _shown(results, built, {c.id: c for c in cases}, settings)
    if own is not None:
        batch.run(own, own_results, settings=settings, workers=workers, **options)
        shown += _shown(own_results, own, {}, settings)
    order = {case.id: number for number, case in enumerate(cases)}
    shown.sort(key=lambda s: order.get(s.id, len(order)))
    demo_page.write(out / "index.html", shown, HONEST)
    return shown


def _clear(built: Path) -> None:
    """Remove what an earlier demo built, and nothing that anybody else did."""
    if built.exists() and not (built / _MARK).is_file():
        raise InputError(built, "exists and was not made by the demo", "name another folder with --out")
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True)
    (built / _MARK).write_text("This folder is replaced by every run of kyc-guard demo.\n", encoding="utf-8")


def build(folder: Path, *, camera: int | None = None, data: Path | None = None) -> list[Case]:
    """Write the demo's submissions, one folder each.

    Raises:
        UnreadableError: the camera gives no picture.
    """
    portrait = portrait_rgb()
    cases = []
    for name, story, make in _ATTACKS:
        _write(folder / name, mp4(make(), fps=_FPS), "selfie.mp4", portrait)
        cases.append(Case(name, story, "attack"))
    still = jpeg(portrait)
    _write(folder / "photo-instead-of-video", still, "selfie.jpg", portrait)
    _write(folder / "wrong-check-digit", still, "selfie.jpg", portrait, wrong_check_digit=True)
    video = mp4(_waved(portrait), fps=_FPS)
    _write(folder / "truncated-video", video[: len(video) // 2], "selfie.mp4", portrait)
    cases += [
        Case("photo-instead-of-video", "A photo where a video is asked for; the document is in order", "unfinished"),
        Case("wrong-check-digit", "The same, and the document's machine-readable zone has a wrong check digit", "unfinished"),
        Case("truncated-video", "A video cut off in mid-upload", "unfinished"),
    ]
    if camera is not None:
        frames, fps = record(camera)
        _write(folder / "your-camera", mp4(frames, fps=fps), "selfie.mp4", _face_of(frames))
        cases.append(Case("your-camera", f"You, recorded live from camera {camera}", "bona fide"))
    if data is not None and (data / "manifest.csv").is_file():
        cases += _real_clips(folder, data)
    return cases


@cache
def portrait_rgb() -> UInt8Array:
    """(640, 480, 3) uint8 RGB: astronaut Eileen Collins, a NASA picture in the public domain."""
    from skimage.data import astronaut

    upright: UInt8Array = cv2.resize(np.asarray(astronaut()[:400, 74:374], np.uint8), (480, 640), interpolation=cv2.INTER_CUBIC)
    return upright


def record(camera: int, seconds: float = _SECONDS) -> tuple[UInt8Array, float]:
    """Frames (T, H, W, 3) uint8 RGB of a camera, and how many came a second.

    Raises:
        UnreadableError: there is no such camera or it gives no picture.
    """
    source = cv2.VideoCapture(camera)
    try:
        fps = source.get(cv2.CAP_PROP_FPS) or _FPS
        frames: list[UInt8Array] = []
        while len(frames) < seconds * fps:
            there, frame_bgr = source.read()
            if not there:
                raise UnreadableError(f"camera {camera}", "gives no picture", "check its number and that no other program uses it")
            frames.append(cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB))
    finally:
        source.release()
    even = np.stack(frames)[:, : frames[0].shape[0] // 2 * 2, : frames[0].shape[1] // 2 * 2]
    return even, float(fps)


def _waved(picture_rgb: UInt8Array) -> UInt8Array:
    """The picture filmed by an unsteady hand: a still face that only the camera moves past."""
    height, width = picture_rgb.shape[:2]
    count = round(_FPS * _SECONDS)
    rng = np.random.default_rng(0)
    x, y, turn = np.cumsum(rng.normal(0, (0.003, 0.003, 0.15), (count, 3)), axis=0).T
    poses = [Pose(shift_x=a, shift_y=b, rotation_deg=c, scale=1.06) for a, b, c in zip(x, y, turn, strict=True)]
    return np.stack([pose.photograph(picture_rgb, height, width) for pose in poses])


def _clip_attack(name: str, seed: int) -> UInt8Array:
    frames = _waved(portrait_rgb())
    attack = next(a for a in CLIP_ATTACKS if a.name == name)
    return attack.apply(np.random.default_rng(seed), frames, _face_image(frames[0]).landmarks_px)


def _swapped() -> UInt8Array:
    attack = next(a for a in ATTACKS if a.name == "live_swap")
    frames = _waved(portrait_rgb())
    # The same seed at every frame: one attacker with one model.
    return np.stack([attack.apply(np.random.default_rng(1), _face_image(frame), None).image_rgb for frame in frames])


def _face_image(frame_rgb: UInt8Array) -> FaceImage:
    return FaceImage(frame_rgb, face_finder().find(frame_rgb)[0].landmarks_px[:, :2])


_ATTACKS: tuple[tuple[str, str, Callable[[], UInt8Array]], ...] = (
    ("printed-photo", "A printed photo moved by hand", lambda: _clip_attack("clip_print_photo", seed=0)),
    ("screen-replay", "A clip replayed on a screen, with moire", lambda: _clip_attack("clip_screen_monitor", seed=9)),
    ("face-swap", "Another face blended over the real one in every frame", _swapped),
    ("frozen-frame", "An injected stream that freezes", lambda: _clip_attack("clip_freeze", seed=0)),
)


def _real_clips(folder: Path, data: Path) -> Iterator[Case]:
    """Clips of the validation split, each of another source: people of flesh and blood, and real attacks."""
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["path"].startswith("clips/") and r["split"] == "validation"]
    for label in ("bona_fide", "attack"):
        one_a_source = list({r["source"]: r for r in rows if r["label"] == label}.values())
        for number, row in enumerate(one_a_source[:_CLIPS_A_KIND], start=1):
            name = f"real-{label.replace('_', '-')}-{number}"
            path = data / row["path"]
            frames = read_clip(path, Settings().sampling, Settings().limits).frames_rgb
            _write(folder / name, path.read_bytes(), f"selfie{path.suffix}", _face_of(frames))
            what = "A living person" if label == "bona_fide" else f"A real attack ({row['attack_type']})"
            yield Case(name, f"{what}, from {row['source']}; the specimen's portrait is a frame of the clip", label.replace("_", " "))


def _face_of(frames_rgb: UInt8Array) -> UInt8Array:
    """Head and shoulders of the face seen best, large and from the front; the whole first frame where there is no face."""
    seen = [(frame, face) for frame in frames_rgb for face in face_finder().find(frame)]
    if not seen:
        whole: UInt8Array = frames_rgb[0]
        return whole
    frame, face = max(seen, key=lambda pair: pair[1].quality.size_px * math.cos(math.radians(pair[1].yaw_deg)))
    centre, side = face_square(face)
    return square_crop(frame, centre, 2.0 * side, 480)


def _write(folder: Path, selfie: bytes, selfie_name: str, portrait: UInt8Array, *, wrong_check_digit: bool = False) -> None:
    holder = Holder()
    page = render(holder, portrait, mrz_lines=zone(holder, wrong_check_digit=wrong_check_digit))
    # As a phone sees it: the document detector suspects what comes straight out of a renderer.
    photo = lay_page(np.random.default_rng(_TABLE), page).image_rgb
    folder.mkdir(parents=True)
    (folder / selfie_name).write_bytes(selfie)
    (folder / "document.png").write_bytes(png(photo))
    claims = "\n".join(f"{key} = {json.dumps(value)}" for key, value in holder.claims.items())
    (folder / "submission.toml").write_text(
        f'selfie = "{selfie_name}"\ndocument = "document.png"\n\n[claims]\n{claims}\n', encoding="utf-8"
    )


def _shown(results: Path, source: Path, cases: dict[str, Case], settings: Settings) -> list[demo_page.Shown]:
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    crops = dict(_crops(source, settings))
    shown = []
    for line in lines:
        if "submission" in line:  # the other lines say what judged
            case = cases.get(line["submission"], Case(line["submission"], "Your own submission", "unknown"))
            shown.append(demo_page.Shown(case.id, case.story, case.truth, line, crops.get(case.id, [])))
    return shown


def _crops(source: Path, settings: Settings, count: int = 3) -> Iterator[tuple[str, list[UInt8Array]]]:
    """(submission id, a few face crops over its selfie, for the eye); nothing of what cannot be decoded."""
    for folder in source.iterdir() if source.is_dir() else ():
        try:
            sent = Submission.from_dir(folder)
            if sent.selfie is None:
                continue
            frames = read_clip(sent.selfie, settings.sampling, settings.limits).frames_rgb
        except InputError:
            continue  # its result line says what is wrong with it
        some = sorted({round(i) for i in np.linspace(0, len(frames) - 1, count)})
        yield sent.id, [_face_of(frames[i : i + 1]) for i in some]
