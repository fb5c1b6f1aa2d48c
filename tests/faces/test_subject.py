"""The face that was followed, held against the one that is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from talking import speaking

from kyc_guard.faces.subject import same_subject
from kyc_guard.types import Face, FaceTrack


def moved(face: Face | None, by: float) -> Face | None:
    """By shares of its side."""
    assert face is not None
    px = np.float32(by * np.ptp(face.box_xyxy[::2]))
    return replace(face, box_xyxy=face.box_xyxy + px)


@pytest.mark.parametrize(("by", "same"), [(0.0, True), (0.3, True), (2.0, False)])
def test_a_face_elsewhere_in_the_picture_is_another_one(by: float, same: bool) -> None:
    scene = speaking()
    assert scene.clip is not None
    assert scene.track is not None
    assert scene.motion_track is not None
    followed = FaceTrack(tuple(moved(face, by) for face in scene.motion_track.faces), 0)
    assert same_subject(scene.clip, scene.track, followed) is same


def test_most_frames_decide_and_without_any_it_is_nobody() -> None:
    scene = speaking()
    assert scene.clip is not None
    assert scene.track is not None
    assert scene.motion_track is not None
    faces = scene.motion_track.faces
    third, most = len(faces) // 3, 2 * len(faces) // 3
    assert same_subject(scene.clip, scene.track, FaceTrack((*(moved(f, 2) for f in faces[:third]), *faces[third:]), 0))
    assert not same_subject(scene.clip, scene.track, FaceTrack((*(moved(f, 2) for f in faces[:most]), *faces[most:]), 0))
    assert not same_subject(scene.clip, None, scene.motion_track)
    assert not same_subject(scene.clip, scene.track, FaceTrack((None,) * len(faces), 0))
    assert not same_subject(scene.clip, FaceTrack((None,) * len(scene.track.faces), 0), scene.motion_track)
