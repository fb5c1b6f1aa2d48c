"""Find, measure, track and cut out faces. All geometry that training and inference share is here, once."""

from kyc_guard.faces.finding import (
    INNER_LIPS_TOP_BOTTOM,
    LEFT_EYE,
    MESH_POINTS,
    OVAL,
    RIGHT_EYE,
    FaceFinder,
    face_crop,
    face_finder,
    face_square,
    measure,
    square_crop,
    track_faces,
)

__all__ = [
    "INNER_LIPS_TOP_BOTTOM",
    "LEFT_EYE",
    "MESH_POINTS",
    "OVAL",
    "RIGHT_EYE",
    "FaceFinder",
    "face_crop",
    "face_finder",
    "face_square",
    "measure",
    "square_crop",
    "track_faces",
]
