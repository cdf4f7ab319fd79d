"""Open photographs safely: what is too large, cut short or no image at all is refused with a
reason.

Two steps, because decoding every photograph of a large manifest up front would take hours:
`check_image` looks at the header and the end when a manifest is read, `open_image` decodes where
the pixels are used. Knows nothing of manifests."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from geoagent_rl.types import UserError

DEFAULT_MAX_MEGAPIXELS = 80.0
LONGEST_ASPECT = (
    200  # Qwen2-VL's processor refuses pictures that are longer than this many times their width
)
# Only formats that photographs come in; Pillow's other readers are never tried on untrusted bytes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
)
HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")  # bytes 4 to 12
# What a complete file of the format has near its end (phones append data of their own to JPEGs).
_END = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_END_BYTES = 65536
# What Pillow's readers raise on damaged files, besides OSError.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
)


class BadImage(UserError):
    """One photograph that cannot be used. `kind` is "missing", "unreadable" or "too large"."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        return (type(self), (str(self), self.kind))  # survives the trip between processes


def check_image(
    path: str | Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> tuple[int, int]:
    """Return (width, height) in pixels as stored, from the header; a file that seems cut short is
    decoded to make sure.

    Raises BadImage. Damage in the middle of a file is not noticed here.
    """
    with _opened(path, max_megapixels) as image:
        end = _END.get(image.format or "")
        if end is not None and end not in _last_bytes(path):
            image.load()
        return image.size


def open_image(path: str | Path, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS) -> Image.Image:
    """Return the decoded photograph, RGB, turned upright as its EXIF says. Raises BadImage (a
    UserError) with the reason.
    """
    with _opened(path, max_megapixels) as image:
        image.load()
        _turn_upright(image)
        return to_rgb(image, path)


def to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    """Return the one picture that learner, engine and pages see: 8-bit RGB.

    16-bit and float values are scaled to 8 bits, what is transparent lies on white. Raises BadImage
    for float values of no known scale."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image), path))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _turn_upright(image: Image.Image) -> None:
    """Turn it in place: a copy of 36 megapixels is 144 MB. With damaged EXIF the pixels are sound,
    the orientation is unknown.
    """
    with contextlib.suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bits(values: NDArray[Any], path: str | Path) -> NDArray[np.uint8]:
    """Scale gray values by what their range says they are: 0..1, 0..255 or 0..65535."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 65535:
        raise BadImage(
            f"{path}: gray values from {low:g} to {high:g}, which are no photograph's; save it "
            "with 8 bits per channel",
            "unreadable",
        )
    sixteen = values.dtype.itemsize == 2 or high > 255
    whole = 65535.0 if sixteen else 255.0 if high > 1 else 1.0
    scaled: NDArray[np.uint8] = np.round(values / whole * 255).astype(np.uint8)
    return scaled


def small_gray(
    path: str | Path, side: int, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> Image.Image:
    """Return the photograph upright, gray, squeezed to side x side pixels; JPEGs are decoded small.
    Raises BadImage.
    """
    with _opened(path, max_megapixels) as image:
        image.draft("L", (4 * side, 4 * side))
        image.load()
        _turn_upright(image)
        return to_rgb(image, path).convert("L").resize((side, side), Image.Resampling.LANCZOS)


@contextmanager
def _opened(path: str | Path, max_megapixels: float) -> Iterator[Image.Image]:
    if not Path(path).is_file():
        raise BadImage(f"{path}: no such image file", "missing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # the limit below is stricter or the user's
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            with Image.open(path, formats=FORMATS) as image:
                megapixels = image.width * image.height / 1e6
                if megapixels > max_megapixels:
                    raise BadImage(
                        _too_large(path, f"{megapixels:.0f} megapixels", max_megapixels),
                        "too large",
                    )
                if max(image.size) > LONGEST_ASPECT * min(image.size):
                    size = f"{image.width} x {image.height} pixels"
                    raise BadImage(
                        f"{path}: {size}, which no image processor takes; crop it", "unreadable"
                    )
                yield image
    except Image.DecompressionBombError:
        raise BadImage(
            _too_large(path, "more pixels than Pillow accepts", max_megapixels), "too large"
        ) from None
    except _DAMAGE as error:
        if _is_heic(path):
            raise BadImage(
                f"{path}: a HEIC picture, which cannot be read here; save it as JPEG or AVIF",
                "unreadable",
            ) from None
        reason = (
            " ".join(str(error).split()).removesuffix(f" {str(path)!r}") or type(error).__name__
        )
        raise BadImage(
            f"{path}: not a readable image ({reason}); replace or remove it", "unreadable"
        ) from None


def _is_heic(path: str | Path) -> bool:
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        return file.read(12)[4:] in HEIC
    return False


def _last_bytes(path: str | Path) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
        return file.read()


def _too_large(path: str | Path, what: str, limit: float) -> str:
    return f"{path}: {what}, limit {limit:g}; shrink it or raise data.max_image_megapixels"
