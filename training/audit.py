"""What trivial statistics alone achieve on each source: a source that brightness or file size separates may carry no claim."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.chips import Chip, ChipRow, ChipStore
from training.evaluate import auc

FEATURES = ("brightness", "contrast", "sharpness", "saturation", "warmth", "bytes a pixel", "face size")
_MOST_FOLDS = 5


def trivial(data: Path, row: ChipRow, chip: Chip) -> list[float]:
    """The `FEATURES` of one chip; nothing a face-attack detector should live on."""
    grey = cv2.cvtColor(chip.image_rgb, cv2.COLOR_RGB2GRAY)
    red, _, blue = (float(v) for v in chip.image_rgb.reshape(-1, 3).mean(0))
    saturation = float(cv2.cvtColor(chip.image_rgb, cv2.COLOR_RGB2HSV)[..., 1].mean())
    size = (data / row.path).stat().st_size / pixels(data / row.path)
    return [
        float(grey.mean()), float(grey.std()), float(np.log1p(cv2.Laplacian(grey, cv2.CV_32F).var())), saturation, red - blue, size,
        row.face_xy_side[2],
    ]  # fmt: skip


@lru_cache
def pixels(file: Path) -> int:
    """How many pixels a picture or all frames of a clip have, from its headers alone.

    Not those of the chip: the file's size over them would say how tightly the face is framed, which is another statistic.
    """
    try:
        with Image.open(file) as picture:
            return int(picture.width * picture.height * getattr(picture, "n_frames", 1))
    except UnidentifiedImageError:
        with av.open(str(file)) as container:
            video = container.streams.video[0]
            return int(video.width * video.height) * sum(1 for packet in container.demux(video) if packet.size)


def audit(data: Path, cache: Path) -> list[dict[str, object]]:
    """One line a source with both classes: counts, the best single statistic and its AUC, all together by unseen people."""
    store = ChipStore(cache / "real")
    lines: list[dict[str, object]] = []
    for source in sorted({r.source for r in store.rows}):
        mine = [i for i, r in enumerate(store.rows) if r.source == source]
        attack = np.array([store.rows[i].is_attack for i in mine])
        if attack.all() or not attack.any():
            continue
        x = np.array([trivial(data, store.rows[i], store[i]) for i in mine], np.float32)
        single = [max(auc(f[attack], f[~attack]), auc(f[~attack], f[attack])) for f in x.T]
        people = [store.rows[i].subject.split("+")[0] for i in mine]
        best = int(np.argmax(single))
        together = _together(x, attack, people)
        lines.append(
            {
                "source": source,
                "attacks": int(attack.sum()),
                "bona_fide": int((~attack).sum()),
                "people": len(set(people)),
                "best_statistic": FEATURES[best],
                "best_auc": round(single[best], 3),
                "together_auc": None if together is None else round(together, 3),
            }
        )
    return lines


def _together(x: NDArray[np.float32], attack: NDArray[np.bool_], people: Sequence[str]) -> float | None:
    """AUC of all statistics, always for people the regression has not seen; ``None`` where there are too few people."""
    folds = min(_MOST_FOLDS, len(set(people)))
    if folds < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    try:
        score = cross_val_predict(model, x, attack, groups=np.array(people), cv=GroupKFold(folds), method="decision_function")
    except ValueError:  # a fold of people of one class only
        return None
    return auc(score[attack].astype(np.float32), score[~attack].astype(np.float32))
