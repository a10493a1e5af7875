"""What to do about weights that are not there: where they come from, under which licence, which setting to make.

Input: a reference. Output: some lines for a message. It cannot fail.
"""

from __future__ import annotations

from models.engines.configuration import WeightsReference

#: Licence of MedGemma's weights, where a reference names none.
_MEDGEMMA_LICENCE = "Health AI Developer Foundations terms of use"
_MEDGEMMA_TERMS_URL = "https://developers.google.com/health-ai-developer-foundations/terms"


def how_to_get(reference: WeightsReference, setting: str) -> str:
    """Return where weights come from, under which licence, and which setting names a folder that holds them."""
    if not reference.published:
        return (
            "  They are on no hub: train them with the author's script, or get them from the author, and name the\n"
            f"  folder that holds them in the settings ({setting or 'engine.adapters'}: FOLDER), or leave the adapter\n"
            "  out (engine.enabled)."
        )
    licence = reference.licence or _MEDGEMMA_LICENCE
    terms = f" ({_MEDGEMMA_TERMS_URL})" if licence == _MEDGEMMA_LICENCE else ""
    return (
        f"  To get them: accept the licence of https://huggingface.co/{reference.hub_id} - {licence}{terms} - and run\n"
        f"    hf download {reference.hub_id} --revision {reference.revision}\n"
        f"  or name a folder that holds them in the settings ({setting or 'engine.bases, engine.adapters'}).\n"
        f"  To see the system without any weights, start\n"
        f"    dicom-worker run --profile demo\n"
        f"  which answers with the stand-in; its answers mean nothing."
    )
