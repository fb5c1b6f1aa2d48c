"""Attacks on the picture of a document: shown on a display or printed and photographed again, with another portrait, or other text.

Pictures are (H, W, 3) uint8 RGB in and out, same shape. An attacker who shoots a document again does so until it can be read, so
the camera is a fair one: full resolution, no shake, nearly in focus. `lay_page` is the honest photo by the same camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from kyc_guard.attacks import blending, hulls, mesh, printing, screen
from kyc_guard.attacks.face_image import FaceImage
from kyc_guard.attacks.optics import Camera, Pose, Rng, draw_camera, draw_pose, light_of, uniform
from kyc_guard.attacks.scene import SKIN_RGB, Surround, draw_backdrop
from kyc_guard.attacks.swap import mesh_swap_cloned
from kyc_guard.types import Float32Array, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A photo of a page, and where the page lies in it."""

    image_rgb: UInt8Array
    pose: Pose

    def move(self, points_px: Float32Array) -> Float32Array:
        """(N, 2) pixels of the page -> (N, 2) float32 pixels of the photo."""
        return self.pose.move(points_px, *self.image_rgb.shape[:2])


def lay_page(rng: Rng, page_rgb: UInt8Array) -> Shot:
    """No attack: the page itself on a table, under the light that falls on prints."""
    paper = printing.draw_paper(rng, printing.PHOTO)
    camera, pose, surround = _desk(rng, page_rgb, exposure=(0.8, 1.3), rim_rgb=(0, 0, 0))
    surround = replace(surround, rim_px=0.0)
    light = light_of(page_rgb)
    return Shot(printing.hold(page_rgb, paper=paper, camera=camera, pose=pose, surround=surround, rng=rng, mean_light=light), pose)


def show_page(rng: Rng, page_rgb: UInt8Array, *, ranges: screen.Range) -> Shot:
    """The page on a display of the range, photographed with the display's edge in view."""
    display = screen.draw_display(rng, ranges)
    camera, pose, surround = _desk(rng, page_rgb, exposure=(0.8, 1.3), rim_rgb=(14, 14, 16))
    return Shot(screen.show(page_rgb, display=display, camera=camera, pose=pose, surround=surround, rng=rng), pose)


def print_page(rng: Rng, page_rgb: UInt8Array, *, ranges: printing.Range) -> Shot:
    """The page printed by a printer of the range and laid on a table."""
    paper = printing.draw_paper(rng, ranges)
    camera, pose, surround = _desk(rng, page_rgb, exposure=(0.8, 1.3), rim_rgb=(248, 248, 246))
    sheet, light = printing.ink(page_rgb, paper, rng), light_of(page_rgb)
    return Shot(printing.hold(sheet, paper=paper, camera=camera, pose=pose, surround=surround, rng=rng, mean_light=light), pose)


def _desk(
    rng: Rng, page_rgb: UInt8Array, *, exposure: tuple[float, float], rim_rgb: tuple[float, float, float]
) -> tuple[Camera, Pose, Surround]:
    height, width = page_rgb.shape[:2]
    camera = draw_camera(rng, exposure=exposure)
    camera = replace(camera, resolution=1.0, motion_px=0.0, blur_px=min(camera.blur_px, 0.5), haze=min(camera.haze, 0.1))
    pose = replace(draw_pose(rng, rotation_deg=3.0, tilt=0.06), scale=uniform(rng, 0.86, 0.95))
    red, green, blue = (float(v) for v in SKIN_RGB[2])
    surround = Surround(
        rect_xyxy=(0.0, 0.0, width - 1.0, height - 1.0),
        rim_px=uniform(rng, 0.01, 0.03) * width,
        rim_rgb=rim_rgb,
        backdrop_rgb=draw_backdrop(rng, page_rgb),
        fingers=(),
        skin_rgb=(red, green, blue),
    )
    return camera, pose, surround


def glue_portrait(rng: Rng, page: FaceImage, donor: FaceImage) -> UInt8Array:
    """A photo of somebody else laid over the portrait: a rectangle with its own light and colours, its edges a little askew."""
    laid, mask = _laid(rng, page, donor, turn_deg=float(rng.normal(0, 1.5)))
    return blending.blend(laid, page.image_rgb, mask)


def match_portrait(rng: Rng, page: FaceImage, donor: FaceImage) -> UInt8Array:
    """The same in a picture editor: colours matched, edges feathered."""
    laid, mask = _laid(rng, page, donor, turn_deg=0.0)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.03 * hulls.face_size_px(page.landmarks_px))
    matched = blending.match_colour(laid, page.image_rgb, mask, strength=uniform(rng, 0.8, 1.0))
    return blending.blend(matched, page.image_rgb, soft)


def clone_portrait(rng: Rng, page: FaceImage, donor: FaceImage) -> UInt8Array:
    """Only the face is another's, pasted in the gradient domain: hair, background and the print's own edges stay."""
    return mesh.around_face(mesh_swap_cloned, rng, page, donor).image_rgb


def _laid(rng: Rng, page: FaceImage, donor: FaceImage, *, turn_deg: float) -> tuple[UInt8Array, Float32Array]:
    """The donor moved onto the page face over face, and the mask (H, W) of a passport photo's rectangle round it."""
    height, width = page.image_rgb.shape[:2]
    size = hulls.face_size_px(page.landmarks_px)
    laid = mesh.warp(mesh.align(donor.landmarks_px, page.landmarks_px), donor.image_rgb, height, width)
    x, y = (float(v) for v in page.landmarks_px[list(hulls.OVAL)].mean(axis=0) - (0.0, 0.05 * size))
    sides = (uniform(rng, 1.25, 1.45) * size, uniform(rng, 1.6, 1.8) * size)
    mask = np.zeros((height, width), np.float32)
    corners = cv2.boxPoints(((x, y), sides, turn_deg))
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 1.0, cv2.LINE_AA, 4)
    return laid, mask
