"""One X-ray, MR or CT series -> the one picture that the caption adapter describes.

Input: the instances of the series. Output: a `ModelInput` with one picture, since each caption of the author's data
belongs to one image: the X-ray with the lowest InstanceNumber, the middle slice of a volume. CT is shown through the
base model's three windows, since the author names none of his own. What was not shown is said in `incomplete`. On
failure: `RenderError`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.headers import InstanceFile
from models.broken_instances import render_what_is_whole
from models.drawing import drawn_input
from models.rendering import ModelInput
from models.series_pictures import BASE_MODEL_CT_WINDOWS, series_pictures


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one series.

    Raises:
        RenderError: There is nothing to show that can be decoded.
    """
    return render_what_is_whole(_render, instances)


def _render(instances: Sequence[InstanceFile]) -> ModelInput:
    shown = series_pictures(instances, at_most=1, ct_windows=BASE_MODEL_CT_WINDOWS)
    return drawn_input(shown.pictures, shown.instances, record=shown.record, incomplete=shown.incomplete)
