"""Kernel names of the vendors: soft, sharp, or not known."""

from __future__ import annotations

import pytest

from dicom_node.kernels import Sharpness, sharpness


@pytest.mark.parametrize(
    "kernel",
    [
        *("B30f", "B31s", "B40f", "I30f", "I31f\\3", "['I30f', '3']", "Br40d", "Bf37f", "Qr40d", "H31s", "STANDARD"),
        *("Standard", "SOFT", "A", "B", "FC08", "FC13-H", "FC18", "FC01"),
    ],
)
def test_soft_ones(kernel: str) -> None:
    assert sharpness(kernel) is Sharpness.SOFT


@pytest.mark.parametrize(
    "kernel",
    ["B50f", "B60s", "B70f", "I70f\\3", "Br64d", "Hr68", "BONE", "BONEPLUS", "LUNG", "EDGE", "YA", "FC30", "FC51"],
)
def test_sharp_ones(kernel: str) -> None:
    assert sharpness(kernel) is Sharpness.SHARP


@pytest.mark.parametrize("kernel", ["", "B45f", "DETAIL", "CHST", "C", "FC43", "iDose", "7", "\\"])
def test_others_say_nothing(kernel: str) -> None:
    assert sharpness(kernel) is Sharpness.UNKNOWN
