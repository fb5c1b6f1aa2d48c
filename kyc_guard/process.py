"""What is set for the process as a whole, once: its threads and how it keeps memory."""

from __future__ import annotations

import ctypes
import platform

import cv2
from threadpoolctl import threadpool_limits

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 29
"""Far above what one submission takes, far below what is an int's."""


def settle() -> None:
    """One thread for OpenCV and for NumPy's BLAS, and freed memory is kept.

    Threads are spent on whole submissions and whole pieces of work; those of the libraries would only fight with them. A clip's frames
    come and go with every submission: given back to the kernel and asked for anew they cost a tenth of all time. Only glibc can be told
    so; its peak stays the same.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEPT_BYTES)
