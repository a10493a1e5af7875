"""Findings that a person gives -> findings as the adapter's reports need them.

Input: a job, and findings as a form or a file has them. Output: the same, checked and complete, as JSON. On failure
`ReviewError`, which names each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from models.adapter import AdapterDefinition
from models.adapter import adapters as known_adapters
from worker.db.records import Job
from worker.db.units import asked_adapter
from worker.review.errors import NamedCase, ReviewError


def in_form(
    job: Job, findings: Mapping[str, Any], adapters: Mapping[str, AdapterDefinition] | None, remedy: str = ""
) -> dict[str, Any]:
    """Return a person's findings about a job as they are kept.

    Args:
        job: The job.
        findings: What the person gives.
        adapters: Those of this site; all there are by default.
        remedy: What else can be done where the adapter is not there.

    Raises:
        ReviewError: They do not have the adapter's form, or the adapter cannot be asked any more.
    """
    try:
        adapter = asked_adapter(known_adapters() if adapters is None else adapters, job)
    except LookupError as error:
        raise ReviewError(NamedCase(job.id), f": {error}{remedy}") from error
    return validated(adapter.findings, findings).model_dump(mode="json")


def validated(model: type[BaseModel], findings: Mapping[str, Any]) -> BaseModel:
    """Check edited findings as strictly as a form: a misspelt field must not vanish.

    Raises:
        ReviewError: The message names each field.
    """
    unknown = sorted(set(findings) - set(model.model_fields))
    if unknown:
        raise ReviewError(
            f"unknown field {', '.join(map(repr, unknown))}; the findings have {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(dict(findings))
    except ValidationError as error:
        lines = [
            f"\n  {'.'.join(str(part) for part in fault['loc']) or 'findings'}: {fault['msg']} (got {fault['input']!r})"
            for fault in error.errors()
        ]
        raise ReviewError(
            "the findings do not have the form that the adapter's report needs:" + "".join(lines)
        ) from None
