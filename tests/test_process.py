"""The process keeps to one thread for each library, and keeps its memory."""

from __future__ import annotations

import platform
import resource

import cv2
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from kyc_guard import process


def test_the_libraries_of_pixels_and_numbers_keep_to_one_thread() -> None:
    cv2.setNumThreads(2)
    process.settle()
    assert cv2.getNumThreads() == 1
    np.ones((4, 4)) @ np.ones((4, 4))
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_frames_that_come_and_go_are_not_asked_for_anew() -> None:
    process.settle()

    def frames() -> None:
        np.ones((20, 720, 1280, 3), np.uint8)

    frames()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        frames()
    # 13,500 pages of 4 kB each time, were they given back.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5 * 13_500 / 4
