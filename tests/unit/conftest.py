"""Settings of the property-based tests: a busy machine is no defect, so no example has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
