"""Percentiles by counting: the very numbers that NumPy finds by sorting, whatever the values and the rescale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dicom_node.percentiles import counted_percentiles
from dicom_node.voi import percentile_window

STORED = st.sampled_from(["u1", "i1", "u2", "i2"]).flatmap(
    lambda kind: arrays(kind, st.integers(1, 400), elements=st.integers(np.iinfo(kind).min, np.iinfo(kind).max))
)
NUMBERS = st.floats(-5000, 5000, width=32)


@settings(deadline=None)
@given(STORED, st.tuples(st.floats(0, 100), st.floats(0, 100)), st.floats(2**-10, 1000, width=32), NUMBERS)
def test_they_are_numpys_to_the_last_digit(
    stored: np.ndarray, shares: tuple[float, float], slope: float, intercept: float
) -> None:
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    expected = tuple(float(bound) for bound in np.percentile(values, shares))
    assert counted_percentiles(stored, shares, slope=slope, intercept=intercept) == expected


@settings(deadline=None)
@given(STORED, st.sampled_from([(1.0, 0.0), (-1.0, 4095.0), (0.25, -1024.0)]))
def test_a_window_is_the_same_of_stored_values_as_of_modality_values(
    stored: np.ndarray, rescale: tuple[float, float]
) -> None:
    values = stored.astype(np.float32) * np.float32(rescale[0]) + np.float32(rescale[1])
    assert percentile_window(stored, 0.5, None, rescale) == percentile_window(values, 0.5)


@pytest.mark.parametrize("stored", [np.zeros(3, np.int32), np.zeros(3, np.float32), np.zeros(0, np.uint16)])
def test_what_is_not_counted_is_left_to_sorting(stored: np.ndarray) -> None:
    assert counted_percentiles(stored, (1, 99)) is None
    assert counted_percentiles(np.zeros(3, np.uint8), (1, 99), slope=-1) is None
