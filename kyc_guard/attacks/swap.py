"""Face swaps: the interior of a face replaced, the hair, neck and background left as the camera saw them.

What every swap leaves is a boundary inside one picture between two histories: interior and surround differ in sharpness,
noise, colour, codec grid and geometry, most of all along the mask's edge. Nothing here re-encodes the finished frame; that
is the recording's business and must happen to bona fide pictures alike, or the codec becomes the label.

What live swaps look like, from webcam clips laid beside the DeepFaceLive streams made from them, frame by frame; figures are
those of the 14 training pairs, three frames each:

- The whole face from chin to hairline is replaced, higher than the mesh reaches, by a soft-edged oval that follows the jaw
  from the inside. Outside it nothing changes: band energies there agree within a few per cent.
- Band energy inside against the original frame, median (range): finest octave .84 (.56-1.44), the next .87 (.65-1.25), then
  .88 and .89. Usually softer, but streams run through a sharpener come out crisper than the camera.
- Mean colour is matched within a few levels; its variation is not: the spread over the face goes to .91 of itself in L*, .5-1.3 in
  a*, .72 in b*. Coloured side light, blush and stubble flatten; skin turns even; noise and codec blocks of the original vanish.
- Light is the model's as much as the room's: forehead, cheeks and chin differ from the original by slow fields of some 5-20 levels;
  creases and pores go while lids, lips and brows stay crisp.
- Brows, eyes, nose and mouth sit a little elsewhere and have another size; eyes keep a stock glint, teeth a soft white bar.
- Over hair strands, glasses and hands the oval cuts or paints over, unless the stream segments the face; then it stops at the fringe.

Sources: K. Shiohara, T. Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022; A. Roessler et al.,
"FaceForensics++", ICCV 2019 (FaceSwap: warp and blend; Deepfakes: autoencoder crop); the clips described above.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from kyc_guard.attacks import blending, hulls, mesh
from kyc_guard.attacks.face_image import Attack, Attacked, FaceImage
from kyc_guard.types import Float32Array, UInt8Array

_UP = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def self_blend(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """The face pasted onto itself after a slight change of tone, sharpness and place: a swap without a second person.

    Source: SBI, sections 3.1-3.3.
    """
    return _self_blended(rng, face, degrade(rng, face.image_rgb), face.image_rgb)


def self_blend_surround(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """As `self_blend`, but the surround is what was changed: the face comes out crisper or brighter than its frame."""
    return _self_blended(rng, face, face.image_rgb, degrade(rng, face.image_rgb))


def _self_blended(rng: np.random.Generator, face: FaceImage, source: UInt8Array, target: UInt8Array) -> Attacked:
    height_px, width_px = target.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    mask = hulls.random_mask(rng, face.landmarks_px, height_px, width_px)
    centre = face.landmarks_px.mean(axis=0)
    scale = rng.uniform(0.95, 1 / 0.95)
    # The paper's 3 % and 1.5 % are of a crop about 1.6 faces wide.
    shift = rng.uniform(-1, 1, size=2) * (0.03, 0.015) * 1.6 * size
    matrix = np.array([[scale, 0, (1 - scale) * centre[0] + shift[0]], [0, scale, (1 - scale) * centre[1] + shift[1]]], np.float32)
    moved = cv2.warpAffine(source, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = cv2.warpAffine(mask, matrix, (width_px, height_px)) * np.float32(hulls.random_ratio(rng))
    return Attacked(blending.blend(moved, target, mask), mask, face.landmarks_px.copy())


def degrade(rng: np.random.Generator, image_rgb: UInt8Array) -> UInt8Array:
    """One random difference of history: tone, and one of lower resolution, sharpening, blur, noise or JPEG."""
    toned = blending.shift_tone(rng, image_rgb)
    match rng.integers(6):
        case 0:
            return blending.resample(toned, 1 / float(rng.choice((2, 4))), up=cv2.INTER_LINEAR, down=cv2.INTER_NEAREST)
        case 1:
            return blending.sharpen(toned, rng.uniform(0.2, 1.0), rng.uniform(0.7, 1.6))
        case 2:
            return blending.resample(toned, rng.uniform(0.35, 0.85), up=int(rng.choice(_UP)))
        case 3:
            return blending.add_noise(rng, toned, rng.uniform(1.5, 6), rng.uniform(0, 1))
        case 4:
            return blending.reencode(toned, int(rng.integers(35, 90)))
        case _:
            return blending.soften(toned, rng.uniform(0.4, 1.2))


def live_swap(rng: np.random.Generator, face: FaceImage, _donor: FaceImage | None = None) -> Attacked:
    """A webcam swap stream as described above, its network's output imitated from the face itself with moved features."""
    height_px, width_px = face.image_rgb.shape[:2]
    restyled = restyle(rng, face.landmarks_px)
    interior = mesh.warp_mesh(face.image_rgb, face.landmarks_px, restyled, height_px, width_px)
    return _streamed(rng, face, interior, restyled)


def live_swap_donor(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """A webcam swap stream whose interior is another person's face, carried onto this one's mesh and lit alike."""
    if not mesh.fits(donor, face):
        return live_swap(rng, face)
    height_px, width_px = face.image_rgb.shape[:2]
    interior, landmarks = mesh.carry(donor, face.landmarks_px, height_px, width_px, keep_shape=rng.uniform(0.0, 0.6))
    inside = hulls.hull_mask("oval", face.landmarks_px, height_px, width_px)
    lit = blending.harmonise(rng, interior, face.image_rgb, inside, hulls.face_size_px(face.landmarks_px))
    return _streamed(rng, face, lit, landmarks)


def _streamed(rng: np.random.Generator, face: FaceImage, interior: UInt8Array, landmarks_px: Float32Array) -> Attacked:
    """Network look, imperfect colour match and the soft oval."""
    height_px, width_px = face.image_rgb.shape[:2]
    mask = oval_mask(rng, face.landmarks_px, height_px, width_px)
    if rng.random() < 0.6:
        mask = segmented(rng, mask, face, interior)
    rendered = network_look(rng, interior, landmarks_px)
    rendered = blending.restrain(rendered, mask, rng.uniform((0.8, 0.55, 0.4), (1.08, 1.15, 1.1)), rng.normal(0, (1.8, 0.7, 0.7)))
    rendered = _reshaded(rng, rendered)
    return Attacked(blending.blend(rendered, face.image_rgb, mask), mask, landmarks_px)


def segmented(rng: np.random.Generator, mask: Float32Array, face: FaceImage, interior: UInt8Array) -> Float32Array:
    """The mask without hair, hands and caps, as swaps that segment the face have it.

    Left out is where the picture, or what is pasted into it, does not look like the skin in its middle; eyes, nose and mouth
    always stay in.
    """
    tolerance = rng.uniform(2.0, 3.5)

    def draw(points: Float32Array, h: int, w: int) -> Float32Array:
        core = hulls.hull_mask("core", points, h, w, grow=0.02)
        parts = hulls.hull_mask("components", points, h, w)
        keep = np.ones((h, w), np.float32)
        for picture in (face.image_rgb, interior):
            keep *= blending.likeness(cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA), core * (1 - parts), tolerance)
        keep = np.maximum(keep, core)
        kernel = max(3, int(rng.uniform(0.02, 0.06) * hulls.face_size_px(points)) | 1)
        return np.asarray(cv2.blur(keep, (kernel, kernel)))

    height_px, width_px = mask.shape
    return mask * hulls.drawn(face.landmarks_px, height_px, width_px, draw, face_px=64)


def _reshaded(rng: np.random.Generator, image_rgb: UInt8Array) -> UInt8Array:
    """Light that a learnt face carries in itself: a slow field of about 6 levels over sixths of the picture, little of it colour."""
    height_px, width_px = image_rgb.shape[:2]
    field = rng.normal(0, rng.uniform(2, 8), (6, 6, 1)) + rng.normal(0, rng.uniform(0, 2), (6, 6, 3))
    # Smooth at low resolution first: cubic interpolation of the full picture would cost ten times as much.
    smooth = cv2.resize(field.astype(np.float32), (32, 32), interpolation=cv2.INTER_CUBIC)
    shade = cv2.resize(smooth, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    shaded: UInt8Array = cv2.add(image_rgb, shade, dtype=cv2.CV_8U)
    return shaded


def network_look(rng: np.random.Generator, image_rgb: UInt8Array, landmarks_px: Float32Array) -> UInt8Array:
    """A face as an autoencoder of 96-320 px returns it: band-limited, stubble and creases evened out, soft eyes and teeth, other grain."""
    height_px, width_px = image_rgb.shape[:2]
    size = hulls.face_size_px(landmarks_px)
    look = image_rgb
    # Creases and stubble are bands of a hundredth to a twentieth of the face; half the size shows them as well.
    half = cv2.resize(look, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    creases = cv2.subtract(blending.soften(half, 0.006 * size), cv2.blur(half, (max(3, int(0.05 * size)),) * 2), dtype=cv2.CV_16S)
    look = cv2.addWeighted(look, 1.0, cv2.resize(creases, (width_px, height_px)), rng.uniform(-0.35, 0.1), 0, dtype=cv2.CV_8U)
    if rng.random() < 0.6:
        look = cv2.bilateralFilter(look, 5, rng.uniform(6, 25), max(1.0, 0.02 * size))
    look = blending.resample(look, rng.uniform(0.45, 1.0), up=int(rng.choice(_UP)))
    if rng.random() < 0.5:
        # Thin, fast-changing parts are what the network is worst at.
        parts = hulls.hull_mask("eyes", landmarks_px, height_px, width_px)
        mouth = hulls.hull_mask("mouth", landmarks_px, height_px, width_px)
        parts = cv2.blur(np.maximum(parts, mouth), (max(3, int(0.06 * size)),) * 2)
        look = blending.blend(blending.soften(look, rng.uniform(0.003, 0.012) * size), look, parts)
    if rng.random() < 0.5:
        look = blending.sharpen(look, rng.uniform(0.3, 1.4), rng.uniform(0.7, 1.5))
    if rng.random() < 0.3:
        look = blending.reencode(look, int(rng.integers(60, 96)))
    if rng.random() < 0.35:
        look = blending.add_noise(rng, look, rng.uniform(0.5, 2.5), rng.uniform(0, 1.2))
    return look


def oval_mask(rng: np.random.Generator, landmarks_px: Float32Array, height_px: int, width_px: int) -> Float32Array:
    """(H, W) float32: a live swap's merge mask, from inside the jaw to the hairline, blurred over 3-20 % of the face."""

    def draw(points: Float32Array, h: int, w: int) -> Float32Array:
        size = hulls.face_size_px(points)
        points = hulls.raise_forehead(hulls.jitter(rng, points, 0.01), rng.uniform(0.1, 0.8))
        mask = hulls.hull_mask("forehead", points, h, w, grow=rng.uniform(-0.05, 0.03))
        mask = hulls.bend(rng, mask, size, rng.uniform(0.0, 0.012))
        kernel = max(3, int(rng.uniform(0.015, 0.1) * size) | 1)
        return np.asarray(cv2.blur(cv2.blur(mask, (kernel, kernel)), (kernel, kernel)))

    return hulls.drawn(landmarks_px, height_px, width_px, draw)


def restyle(rng: np.random.Generator, landmarks_px: Float32Array) -> Float32Array:
    """Another identity's proportions on the same pose: features shifted by about 1.5 % of the face and resized by 6 %."""
    points = landmarks_px.copy()
    size = hulls.face_size_px(landmarks_px)
    apart = rng.normal(0, 0.012) * (landmarks_px[454] - landmarks_px[234])
    parts = (
        ((*hulls.LEFT_EYE, 468, 469, 470, 471, 472), -apart),
        ((*hulls.RIGHT_EYE, 473, 474, 475, 476, 477), apart),
        (hulls.LEFT_BROW, -apart),
        (hulls.RIGHT_BROW, apart),
        ((*hulls.NOSE, 4, 6, 195, 1), 0 * apart),
        ((*hulls.LIPS, *hulls.MOUTH_OPENING), 0 * apart),
    )
    for part, sideways in parts:
        group = landmarks_px[list(part)]
        centre = group.mean(axis=0)
        stretch = rng.normal(1.0, 0.06, size=2)
        points[list(part)] = (group - centre) * stretch + centre + sideways + rng.normal(0, 0.012 * size, size=2)
    return points


def mesh_swap(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """Another person's face warped triangle by triangle onto this one's mesh, colour-matched and feathered in.

    Source: the FaceSwap method of FaceForensics++.
    """
    if not mesh.fits(donor, face):
        return live_swap(rng, face)
    height_px, width_px = face.image_rgb.shape[:2]
    interior, landmarks = mesh.carry(donor, face.landmarks_px, height_px, width_px, keep_shape=rng.uniform(0.0, 0.3))
    mask = hulls.random_mask(rng, face.landmarks_px, height_px, width_px, hulls.FULL_FACE)
    if rng.random() < 0.6:
        mask = segmented(rng, mask, face, interior)
    matched = blending.harmonise(rng, interior, face.image_rgb, mask, hulls.face_size_px(face.landmarks_px))
    if rng.random() < 0.5:
        matched = blending.resample(matched, rng.uniform(0.5, 0.95), up=int(rng.choice(_UP)))
    return Attacked(blending.blend(matched, face.image_rgb, mask), mask, landmarks)


def mesh_swap_cloned(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """As `mesh_swap`, pasted in the gradient domain: no seam in colour, but the donor's texture up to a hard line."""
    if not mesh.fits(donor, face):
        return live_swap(rng, face)
    height_px, width_px = face.image_rgb.shape[:2]
    interior, landmarks = mesh.carry(donor, face.landmarks_px, height_px, width_px, keep_shape=0.0)
    mask = hulls.random_mask(rng, face.landmarks_px, height_px, width_px, ("oval", "jaw", "core"))
    matched = blending.match_colour(interior, face.image_rgb, mask, strength=rng.uniform(0.5, 1.0))
    return Attacked(blending.clone(matched, face.image_rgb, mask), mask, landmarks)


def crop_swap(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """A whole upright crop written by a network at 112-256 px and turned back into the frame through a soft square or oval.

    Unlike an oval filled from a mesh, all of the crop is resampled twice, background and hair near the face included.

    Source: the pipelines of FaceShifter (L. Li et al., CVPR 2020), SimSwap (R. Chen et al., ACM MM 2020) and GHOST (A. Groshev et
    al., IEEE Access 2022): align by five points, generate, warp back, blend by an eroded and blurred mask.
    """
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    if mesh.fits(donor, face) and rng.random() < 0.5:
        interior, landmarks = mesh.carry(donor, face.landmarks_px, height_px, width_px, keep_shape=rng.uniform(0.0, 0.6))
        # Only the face changes; hair and background pass through the network as they are.
        inside = oval_mask(rng, face.landmarks_px, height_px, width_px)
        interior = blending.blend(blending.harmonise(rng, interior, face.image_rgb, inside, size), face.image_rgb, inside)
    else:
        landmarks = restyle(rng, face.landmarks_px)
        interior = mesh.warp_mesh(face.image_rgb, face.landmarks_px, landmarks, height_px, width_px)
    # Large faces are given to large networks: below half the native size the blur alone would tell.
    side = max(int(rng.integers(112, 257)), int(0.6 * size))
    across = face.landmarks_px[263] - face.landmarks_px[33]
    scale = side / (size * rng.uniform(1.1, 1.35))
    turn = scale * np.array([[across[0], across[1]], [-across[1], across[0]]]) / max(float(np.linalg.norm(across)), 1e-6)
    centre = face.landmarks_px[list(hulls.OVAL)].mean(axis=0) + rng.uniform(-0.04, 0.04, size=2) * size
    matrix = np.column_stack([turn, side / 2 - turn @ centre]).astype(np.float32)
    crop = network_look(rng, mesh.warp(matrix, interior, side, side), mesh.move(matrix, landmarks))
    border = max(1, int(rng.uniform(0.02, 0.1) * side))
    square = np.zeros((side, side), np.float32)
    square[border:-border, border:-border] = 1
    square = cv2.blur(square, (2 * border - 1, 2 * border - 1))
    to_frame = {"flags": cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REFLECT_101}
    written = cv2.warpAffine(crop, matrix, (width_px, height_px), **to_frame)
    mask = cv2.warpAffine(square, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    if rng.random() < 0.5:
        mask = mask * oval_mask(rng, face.landmarks_px, height_px, width_px)
    written = blending.restrain(written, mask, rng.uniform((0.9, 0.75, 0.75), (1.05, 1.1, 1.1)), rng.normal(0, (1.5, 0.5, 0.5)))
    return Attacked(blending.blend(written, face.image_rgb, mask), mask, landmarks)


def morph(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """Two people's textures averaged on one mesh at 0.3-0.7: ghosted lashes and nostrils, skin smoother than either.

    Source: landmark-based face morphing as in M. Ferrara et al., "The magic passport", IJCB 2014; here spliced into the
    frame of one of them, as morphing tools do to keep the hair.
    """
    if not mesh.fits(donor, face):
        return self_blend(rng, face)
    height_px, width_px = face.image_rgb.shape[:2]
    share = rng.uniform(0.3, 0.7)
    interior, landmarks = mesh.carry(donor, face.landmarks_px, height_px, width_px, keep_shape=0.0)
    mask = hulls.random_mask(rng, face.landmarks_px, height_px, width_px, ("whole", "oval", "forehead"))
    matched = blending.harmonise(rng, interior, face.image_rgb, mask, hulls.face_size_px(face.landmarks_px))
    mask *= np.float32(share)
    return Attacked(blending.blend(matched, face.image_rgb, mask), mask, landmarks)


def pasted_oval(rng: np.random.Generator, face: FaceImage, donor: FaceImage | None = None) -> Attacked:
    """Reserved: a donor's face laid on by shift, turn and scale alone, through a plain ellipse, as phone face-swap filters do."""
    if donor is None:
        donor = face
    height_px, width_px = face.image_rgb.shape[:2]
    size = hulls.face_size_px(face.landmarks_px)
    matrix = mesh.align(donor.landmarks_px, face.landmarks_px)
    interior = mesh.warp(matrix, donor.image_rgb, height_px, width_px)
    (x, y), (short, long), angle = cv2.fitEllipse(face.landmarks_px[list(hulls.OVAL)])
    shrink = rng.uniform(0.75, 0.95)
    mask = np.zeros((height_px, width_px), np.float32)
    cv2.ellipse(mask, ((float(x), float(y)), (shrink * short, shrink * long), float(angle)), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.01, 0.04) * size)
    matched = blending.match_colour(interior, face.image_rgb, mask, strength=rng.uniform(0.8, 1.0))
    return Attacked(blending.blend(matched, face.image_rgb, mask), mask, mesh.move(matrix, donor.landmarks_px))


SWAPS = (
    Attack("self_blend", "swap", held_out=False, needs_donor=False, apply=partial(mesh.around_face, self_blend)),
    Attack("self_blend_surround", "swap", held_out=False, needs_donor=False, apply=self_blend_surround),
    Attack("live_swap", "swap", held_out=False, needs_donor=False, apply=partial(mesh.around_face, live_swap)),
    Attack("live_swap_donor", "swap", held_out=False, needs_donor=True, apply=partial(mesh.around_face, live_swap_donor)),
    Attack("mesh_swap", "swap", held_out=False, needs_donor=True, apply=partial(mesh.around_face, mesh_swap)),
    Attack("mesh_swap_cloned", "swap", held_out=False, needs_donor=True, apply=partial(mesh.around_face, mesh_swap_cloned)),
    Attack("crop_swap", "swap", held_out=False, needs_donor=True, apply=partial(mesh.around_face, crop_swap)),
    Attack("morph", "swap", held_out=False, needs_donor=True, apply=partial(mesh.around_face, morph)),
    Attack("pasted_oval", "swap", held_out=True, needs_donor=True, apply=partial(mesh.around_face, pasted_oval)),
)
