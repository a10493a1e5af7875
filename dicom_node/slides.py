"""A whole-slide microscopy series -> its pyramid, and which parts of it to show (PS3.3 A.32.8, C.8.12).

Input: the instances of one series. Output: `Slide`, and from it `Region`s: a level that fits a size, or patches of
tissue; each names the frames it is made of, so that it can be stored and shown again. Labels and overviews carry the
patient's name and are never shown. On failure: `PixelError`, where there is no pyramid or a tile cannot be decoded.

wsidicom tells the structure (levels, tiles, concatenations, focal planes) and opens local files only; the tiles are
decoded by `dicom_node.pixels` like every other frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from dicom_node.headers import InstanceFile
from dicom_node.pixels import PixelError, read_frames, read_image
from dicom_node.tissue import Rgb, shares, tissue_mask

#: A picture that shows a whole level is at most this wide and high.
LARGEST_SIDE = 2048
#: Tissue is looked for on a level of about the first size; no region is larger than the second.
_MASK_SIDE, _LARGEST_SIDE = 1024, 8192
#: A patch shows tissue where at least this share of it does; where no patch does, the fullest ones are taken.
_ENOUGH_TISSUE, _ANY_TISSUE = 0.5, 0.05
_GLASS = 255
_SIZES = ["TotalPixelMatrixColumns", "TotalPixelMatrixRows", "Columns", "Rows"]
#: 50 x 50 mm at 0.125 micrometres in tiles of 256 pixels.
_MOST_TILES = 2_500_000


@dataclass(frozen=True, slots=True)
class Tile:
    """A frame and where it lies in its region; it may stick out."""

    sop_instance_uid: str
    #: Counted from 0.
    frame: int
    #: Its left upper corner, in pixels from the region's.
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of one level, and the frames that it is made of; what no frame covers is glass."""

    #: Counted from 0, the largest.
    level: int
    #: In pixels of the level.
    x: int
    y: int
    width: int
    height: int
    mm_per_pixel: float | None
    #: Share of it that is tissue; None where nobody looked.
    tissue: float | None
    tiles: tuple[Tile, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, from which `from_json` makes an equal region."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Region:
        """Make the region that `to_json` described."""
        return cls(**{**data, "tiles": tuple(Tile(**tile) for tile in data["tiles"])})


@dataclass(frozen=True, slots=True)
class SlideLevel:
    """One resolution of the slide."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    mm_per_pixel: float | None
    #: SOP Instance UIDs of the instances it is stored in.
    instances: tuple[str, ...]
    #: The instance and its frame (from 0) at a column and row of tiles (from 0); None where nothing is stored.
    frame_at: Callable[[int, int], tuple[str, int] | None] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Slide:
    """The pyramid of a series."""

    #: The largest first.
    levels: tuple[SlideLevel, ...]
    files: Mapping[str, Path]
    #: What was left out and why, one sentence each.
    left_out: tuple[str, ...]

    def level_that_fits(self, side: int = LARGEST_SIDE) -> int:
        """Return the largest level that is at most `side` pixels wide and high; the smallest where none is."""
        fitting = [n for n, level in enumerate(self.levels) if max(level.width, level.height) <= side]
        return fitting[0] if fitting else len(self.levels) - 1

    def level_near(self, mm_per_pixel: float) -> int:
        """Return the level whose resolution is nearest to the one given; the largest where none is known."""
        known = [(n, level.mm_per_pixel) for n, level in enumerate(self.levels) if level.mm_per_pixel]
        return min(known, key=lambda entry: abs(math.log(entry[1] / mm_per_pixel)))[0] if known else 0


def read_slide(instances: Sequence[InstanceFile]) -> Slide:
    """Return the pyramid of one series, without decoding anything.

    Raises:
        PixelError: The series holds no readable pyramid level.
    """
    files = {instance.header.sop_instance_uid: instance.path for instance in instances}
    named = instances[0].header.sop_instance_uid if instances else ""
    others = [kind for kind in ("LABEL", "OVERVIEW") for one in instances if kind in one.header.image_type]
    left_out = tuple(
        f"{others.count(kind)} {kind.lower()} left out: it may name the patient" for kind in sorted({*others})
    )
    wanted = [one.path for one in instances if not {"LABEL", "OVERVIEW"} & set(one.header.image_type)]
    remedy = "send the whole slide in VL Whole Slide Microscopy Image Storage"
    if not wanted:
        raise PixelError(named, "the series holds no level of a slide, only label and overview", remedy)
    for path in wanted:
        _check_size(path)
    # Half a second to import: most processes that know of slides never open one.
    from wsidicom import WsiDicom

    try:
        with WsiDicom.open(wanted) as opened:
            more = len(opened.pyramids) - 1
            levels = tuple(_level(level) for level in opened.levels)
            left_out += (f"{more} more pyramid(s) of the series left out",) if more else ()
            left_out += _other_planes(opened.levels[0])
    except PixelError:
        raise
    except Exception as error:
        broken = _broken_alone(wanted, instances)
        raise PixelError(broken, f"the slide's pyramid cannot be read ({error})", remedy) from error
    return Slide(levels, files, left_out)


def whole_level(slide: Slide, level: int) -> Region:
    """Return a level as one region."""
    return _region(slide, level, 0, 0, slide.levels[level].width, slide.levels[level].height)


def tissue_patches(slide: Slide, *, level: int, side: int, at_most: int) -> tuple[Region, ...]:
    """Return up to `at_most` square patches with tissue, spread evenly over it, from the top left downwards.

    Args:
        slide: From `read_slide`.
        level: Of which level, counted from 0, the largest.
        side: Of a patch, in pixels of that level.
        at_most: How many, at least 1.

    Raises:
        PixelError: The level on which tissue is looked for is too large or cannot be decoded.
    """
    looked_at = slide.level_that_fits(_MASK_SIDE)
    small, shown = slide.levels[looked_at], slide.levels[level]
    if max(small.width, small.height) > _LARGEST_SIDE:
        raise PixelError(
            next(iter(slide.files), ""),
            f"the slide's smallest level has {small.width} x {small.height} pixels: it is no pyramid",
            "send the slide with its smaller levels",
        )
    mask = tissue_mask(read_region(slide.files, whole_level(slide, looked_at)))
    across, down = max(1, shown.width // side), max(1, shown.height // side)
    scale = small.width / shown.width
    found = shares(mask, across, down, side * scale, side * small.height / shown.height)
    enough = found >= _ENOUGH_TISSUE
    if not enough.any():
        enough = found >= max(_ANY_TISSUE, float(found.max()) * 0.5)
    places = np.argwhere(enough)
    chosen = places[np.unique(np.round(np.linspace(0, len(places) - 1, min(at_most, len(places)))).astype(int))]
    return tuple(
        _region(slide, level, int(column) * side, int(row) * side, side, side, float(found[row, column]))
        for row, column in chosen
    )


def read_region(files: Mapping[str, Path], region: Region) -> Rgb:
    """Return the pixels of a region, (height, width, 3), RGB.

    Args:
        files: Where the instances lie, by SOP Instance UID (`Slide.files`).
        region: From here, or from a stored record.

    Raises:
        PixelError: The region is too large, an instance is gone, a tile cannot be decoded, or is not in colour.
    """
    if max(region.width, region.height) > _LARGEST_SIDE:
        raise PixelError(
            region.tiles[0].sop_instance_uid if region.tiles else "",
            f"a region of {region.width} x {region.height} pixels is beyond the limit of {_LARGEST_SIDE} a side",
            "show a smaller level or a part of it",
        )
    picture = np.full((region.height, region.width, 3), _GLASS, dtype=np.uint8)
    by_instance: dict[str, list[Tile]] = {}
    for tile in region.tiles:
        by_instance.setdefault(tile.sop_instance_uid, []).append(tile)
    for uid, tiles in by_instance.items():
        if uid not in files:
            raise PixelError(uid, "it is not among the instances of the series", "send the whole slide again")
        image = read_image(files[uid])
        for tile, frame in zip(tiles, read_frames(image, [tile.frame for tile in tiles]), strict=True):
            if frame.ndim != 3 or frame.dtype != np.uint8:
                raise image.error("its tiles are not in 8-bit colour", "send a brightfield slide")
            _paste(picture, frame, tile)
    return picture


def _paste(picture: Rgb, frame: Rgb, tile: Tile) -> None:
    left, top = max(tile.x, 0), max(tile.y, 0)
    right = min(tile.x + frame.shape[1], picture.shape[1])
    bottom = min(tile.y + frame.shape[0], picture.shape[0])
    picture[top:bottom, left:right] = frame[top - tile.y : bottom - tile.y, left - tile.x : right - tile.x]


def _region(slide: Slide, number: int, x: int, y: int, width: int, height: int, tissue: float | None = None) -> Region:
    level = slide.levels[number]
    width, height = min(width, level.width - x), min(height, level.height - y)
    tiles = []
    for row in range(y // level.tile_height, math.ceil((y + height) / level.tile_height)):
        for column in range(x // level.tile_width, math.ceil((x + width) / level.tile_width)):
            found = level.frame_at(column, row)
            if found is not None:
                tiles.append(Tile(*found, column * level.tile_width - x, row * level.tile_height - y))
    known = None if tissue is None else round(tissue, 4)
    return Region(number, x, y, width, height, level.mm_per_pixel, known, tuple(tiles))


def _check_size(path: Path) -> None:
    """Refuse a claim of more tiles than any scanner makes, before anything is allocated for them."""
    try:
        claimed = dcmread(path, stop_before_pixels=True, specific_tags=_SIZES)
        width, height, columns, rows = (int(claimed.get(keyword) or 0) for keyword in _SIZES)
    except Exception as error:
        raise PixelError(path.name, f"the file cannot be read as DICOM ({error})", "send it again") from error
    tiles = math.ceil(width / max(columns, 1)) * math.ceil(height / max(rows, 1))
    if not 0 < tiles <= _MOST_TILES:
        reason = f"a level of {width} x {height} pixels in tiles of {columns} x {rows} is not possible"
        raise PixelError(path.name, reason, "check the original")


def _broken_alone(paths: Sequence[Path], instances: Sequence[InstanceFile]) -> str:
    """Return the SOP Instance UID of the one level that cannot be opened by itself; "" where it is none, or several."""
    from wsidicom import WsiDicom

    broken = []
    for path in paths:
        try:
            WsiDicom.open([path]).close()
        except Exception:  # noqa: BLE001 - which one fails is what is asked here; why it fails is known
            broken.append(path)
    uids = {one.header.sop_instance_uid for one in instances if one.path in broken}
    return uids.pop() if len(uids) == 1 else ""


def _level(level: Any) -> SlideLevel:
    """Return a wsidicom level as values: the frame at each place, in its default focal plane and optical path."""
    from wsidicom.geometry import Point

    instance = level.default_instance
    tiles = instance.image_data.tiles
    parts = [(part.frame_offset, part.frame_count, str(part.uids.instance)) for part in instance.datasets]

    def frame_at(column: int, row: int) -> tuple[str, int] | None:
        index = tiles.get_frame_index(Point(column, row), instance.default_z, instance.default_path)
        return next(((uid, index - first) for first, count, uid in parts if first <= index < first + count), None)

    spacing = level.pixel_spacing
    return SlideLevel(
        width=level.size.width,
        height=level.size.height,
        tile_width=tiles.tile_size.width,
        tile_height=tiles.tile_size.height,
        mm_per_pixel=float(spacing.width) if spacing is not None else None,
        instances=tuple(uid for _, _, uid in parts),
        frame_at=frame_at,
    )


def _other_planes(level: Any) -> tuple[str, ...]:
    said = []
    for name, values in (("focal plane", level.focal_planes), ("optical path", level.optical_paths)):
        if len(values) > 1:
            said.append(f"{len(values) - 1} more {name}(s) left out")
    return tuple(said)
