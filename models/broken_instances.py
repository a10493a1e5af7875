"""A series with a broken image in it -> the model input of the rest: one bad slice must not cost a study its answer.

Input: a renderer and the instances of a series. Output: its `ModelInput`, where `incomplete` names each instance that
was left out and why, so that a person looks. On failure: the renderer's `RenderError`, where too much is broken or what
fails is not the pixels of one instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dicom_node.headers import InstanceFile
from dicom_node.pixels import PixelError
from models.rendering import ModelInput, RenderError

#: Of a series, at most one image in so many is left out, and at most so many in all; but one may always be.
_ONE_IN, _MOST = 10, 8


def render_what_is_whole(
    render: Callable[[Sequence[InstanceFile]], ModelInput], instances: Sequence[InstanceFile]
) -> ModelInput:
    """Return what `render` makes of the instances that can be decoded.

    Args:
        render: Raises `RenderError` from a `PixelError` where an instance cannot be decoded.
        instances: Of one series, in any order.

    Raises:
        RenderError: See the module.
    """
    left, reasons = list(instances), list[str]()
    while True:
        try:
            shown = render(left)
        except RenderError as error:
            whole = [instance for instance in left if not _is_about(error, instance)]
            if len(whole) == len(left) or not whole or len(reasons) == min(_MOST, max(1, len(instances) // _ONE_IN)):
                if reasons:
                    before = f"{_count(len(reasons), len(instances))} left out before for reasons like it"
                    raise RenderError(f"{error}; {before}") from error
                raise
            left = whole
            reasons.append(str(error))
            continue
        said = (f"{_count(len(reasons), len(instances))} left out: {'; '.join(reasons)}",) if reasons else ()
        return replace(shown, incomplete=(*said, *shown.incomplete))


def _is_about(error: RenderError, instance: InstanceFile) -> bool:
    cause = error.__cause__
    names = (instance.header.sop_instance_uid, instance.path.name)
    return isinstance(cause, PixelError) and cause.sop_instance_uid in names


def _count(left_out: int, given: int) -> str:
    return f"{left_out} of {given} images {'was' if left_out == 1 else 'were'}"
