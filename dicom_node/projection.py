"""What a projection X-ray (CR, DX, MG) says about itself: which side, which view, and whether it is for eyes at all.

Input: `ImageAttributes`. Output: words and answers; what the header does not say is "" or False. Nothing fails.

Sources: PresentationIntentType PS3.3 C.8.11.1, ImageLaterality C.8.11.2, view C.8.11.4 and C.8.11.7.
"""

from __future__ import annotations

from dicom_node.frame_attributes import items, text
from dicom_node.pixels import ImageAttributes


def is_for_processing(image: ImageAttributes) -> bool:
    """Tell whether the header says that the values are the detector's, not yet made for looking at."""
    return text(image.dataset, "PresentationIntentType") == "FOR PROCESSING"


def view_of(image: ImageAttributes) -> str:
    """Return laterality and view, e.g. "R CC", "L MLO", "PA"; "" where neither is said."""
    dataset = image.dataset
    side = text(dataset, "ImageLaterality") or text(dataset, "Laterality")
    view = text(dataset, "ViewPosition")
    if not view:
        view = next((text(item, "CodeMeaning") for item in items(dataset, "ViewCodeSequence")), "")
    return " ".join(word for word in (side if side in ("L", "R", "B") else "", view) if word)
