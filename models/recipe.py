"""A recipe: which frames become the model's pictures, and all that is done to them, as values that rows can keep.

Input: what a renderer decides. Output: frozen values, to JSON and back; `models.drawing` makes the pixels of them, the
first time and every time after. `RecipeError` where stored JSON is no recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from dicom_node.display import VoiLut, Window
from dicom_node.mask_module import SubtractionPlan
from dicom_node.picture_areas import Box
from dicom_node.slides import Region


class RecipeError(ValueError):
    """What is stored is no recipe that this version can follow; the message says where."""


@dataclass(frozen=True, slots=True)
class FrameOf:
    """One frame of one instance; its colours as they are stored, where it is a picture by itself."""

    sop_instance_uid: str
    #: Counted from 1, as DICOM counts; 1 for an instance that has but one.
    frame: int = 1


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A window from the values themselves; following the recipe turns it into the `Window` that was found."""

    #: Share of the values on either side that may be lost in black and white, in percent.
    tail_percent: float = 0.5
    #: Leave collimator and shutter out of account: wide areas at the very lowest or highest value.
    without_flat_border: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """One grey picture: a frame's values through one shading, padding black, 0 black whatever the polarity."""

    of: FrameOf
    shading: Window | VoiLut | Percentiles
    #: The shading is then of the values less their mask.
    subtraction: SubtractionPlan | None = None


class Filter(StrEnum):
    """How pixels between pixels are made, by Pillow's names."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and columns that a picture is brought to, whatever its shape."""

    rows: int
    columns: int
    by: Filter


@dataclass(frozen=True, slots=True)
class Picture:
    """One image as the model sees it: exactly one of `planes`, `colour` and `region` is given."""

    #: One plane for R, G and B alike, or one for each.
    planes: tuple[Plane, ...] = ()
    colour: FrameOf | None = None
    #: A part of a slide's pyramid.
    region: Region | None = None
    #: All else is made black; None keeps everything.
    only: Box | None = None
    #: None leaves the frame's own size to the base model's processor.
    size: Size | None = None

    def __post_init__(self) -> None:
        """Refuse what is no picture."""
        given = bool(self.planes) + (self.colour is not None) + (self.region is not None)
        if given != 1 or len(self.planes) not in (0, 1, 3) or (self.region is not None and not self.region.tiles):
            raise RecipeError(
                "a picture has 1 or 3 planes, or is a frame in colour, or a region of tiles; this one has "
                f"{len(self.planes)} planes and {given} of the three"
            )

    @property
    def shown(self) -> FrameOf:
        """The frame that the picture is about: the middle one of three planes, the first tile of a region."""
        return self.frames[len(self.planes) // 2]

    @property
    def frames(self) -> tuple[FrameOf, ...]:
        """All frames that are in it; masks are not."""
        if self.region is not None:
            return tuple(FrameOf(tile.sop_instance_uid, tile.frame + 1) for tile in self.region.tiles)
        return tuple(plane.of for plane in self.planes) if self.colour is None else (self.colour,)


Recipe = tuple[Picture, ...]

_RECIPE: Final = TypeAdapter(Recipe)


def recipe_to_json(recipe: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return a JSON-ready list, without what is at its default."""
    stored: list[dict[str, Any]] = _RECIPE.dump_python(tuple(recipe), mode="json", exclude_defaults=True)
    return list(stored)


def recipe_from_json(stored: Any) -> Recipe:
    """Rebuild a recipe from `recipe_to_json`.

    Raises:
        RecipeError: It is none, or of a later version.
    """
    try:
        return _RECIPE.validate_python(stored, strict=False)
    except ValidationError as error:
        raise RecipeError(f"the stored recipe of the model's input cannot be read: {error.errors()[0]}") from error
