"""The shortcut audit: file size is set against the picture's own pixels, however the face in it is framed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_chips import blotches, chip, row
from PIL import Image

pytest.importorskip("sklearn", reason="the train extra is not installed")

import av

from training.audit import FEATURES, pixels, trivial


def test_a_picture_has_its_own_pixels_and_a_clip_those_of_all_its_frames(tmp_path: Path) -> None:
    Image.fromarray(blotches(1, 60)).resize((80, 60)).save(tmp_path / "a.jpg")
    still = Image.fromarray(blotches(2, 40))
    still.save(tmp_path / "b.gif", save_all=True, append_images=[Image.fromarray(blotches(n, 40)) for n in (3, 4)])
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * n, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert [pixels(tmp_path / name) for name in ("a.jpg", "b.gif", "c.mp4")] == [80 * 60, 3 * 40 * 40, 5 * 64 * 48]


def test_bytes_a_pixel_do_not_depend_on_how_tightly_the_face_is_cut(tmp_path: Path) -> None:
    Image.fromarray(blotches(1, 200)).save(tmp_path / "a.jpg")
    place = FEATURES.index("bytes a pixel")
    small, large = (trivial(tmp_path, row(path="a.jpg", side_px=side), chip(blotches(1, side)))[place] for side in (48, 192))
    assert small == large == pytest.approx((tmp_path / "a.jpg").stat().st_size / 200**2)
