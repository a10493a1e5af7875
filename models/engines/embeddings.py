"""Images -> embeddings: each picture goes through the vision tower once for each adapter, and is remembered.

Every adapter here changes the vision tower, so an embedding belongs to (adapter digest, image digest). Input: images by
digest. Output: tensors of shape (image tokens, hidden size). On failure: what torch raises; out of memory included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from models.engines.resident import Resident
from models.generation import RgbImage

#: Pictures in one pass through the vision tower: at 896 x 896 each is 4,096 patches of activations.
_AT_ONCE = 8


class ImageCache:
    """Embeddings used last, up to a number of bytes."""

    def __init__(self, mib: int) -> None:
        """Keep up to `mib` MiB; 0 keeps none."""
        self._room = mib << 20
        self._kept: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()
        self._size = 0
        #: Pictures that went through the vision tower, for tests and benchmarks.
        self.embedded = 0

    def embeddings(
        self, resident: Resident, adapter: str, adapter_digest: str, images: Mapping[str, RgbImage]
    ) -> dict[str, torch.Tensor]:
        """Return image digest -> embedding under this adapter; computes those it does not know."""
        found: dict[str, torch.Tensor] = {}
        for digest in images:
            known = self._kept.get((adapter_digest, digest))
            if known is not None:
                self._kept.move_to_end((adapter_digest, digest))
                found[digest] = known
        missing = [digest for digest in images if digest not in found]
        for start in range(0, len(missing), _AT_ONCE):
            chunk = missing[start : start + _AT_ONCE]
            for digest, embedding in zip(chunk, _embed(resident, adapter, [images[d] for d in chunk]), strict=True):
                found[digest] = embedding
                self._keep((adapter_digest, digest), embedding)
            self.embedded += len(chunk)
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._size = 0

    def _keep(self, key: tuple[str, str], embedding: torch.Tensor) -> None:
        size = embedding.numel() * embedding.element_size()
        if size > self._room:
            return
        # A copy of its own: a view would hold the memory of all that were computed with it.
        self._kept[key] = embedding.clone()
        self._size += size
        while self._size > self._room:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.numel() * dropped.element_size()


def _embed(resident: Resident, adapter: str, images: list[RgbImage]) -> torch.Tensor:
    """Return embeddings of shape (images, image tokens, hidden size)."""
    pixels: Any = resident.processor.image_processor([Image.fromarray(image) for image in images], return_tensors="pt")
    with resident.switch.answering([adapter]):
        features: torch.Tensor = resident.model.get_image_features(
            pixels["pixel_values"].to(resident.device, resident.dtype), return_dict=True
        ).pooler_output
    return features
