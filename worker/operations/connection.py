"""Does a destination answer now? Asked when a person wants to know, by whatever its kind has for it; nothing is sent.

Input: the settings and a destination's name. Output: a `Connection`, in words where it does not answer. It may take as
long as the destination lets us wait.
"""

from __future__ import annotations

import time

from worker.channels import UnreachableError, channel_of
from worker.operations.delivery_shapes import Connection
from worker.operations.waiting import in_words
from worker.settings import Settings


def check_connection(settings: Settings, destination: str) -> Connection | None:
    """Ask a destination whether it is there; None where the settings name none such."""
    target = next((known for known in settings.destinations if known.name == destination), None)
    if target is None:
        return None
    begun, trouble = time.monotonic(), ""
    try:
        channel_of(target).check(settings, target)
    except UnreachableError as error:
        trouble = in_words(str(error)) or "it does not say why"
    return Connection(
        destination=destination,
        address=target.address,
        answers=not trouble,
        trouble=trouble,
        took_s=round(time.monotonic() - begun, 3),
    )
