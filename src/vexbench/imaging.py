"""Images from files: any common format to 8-bit RGB, or an error that names the file."""

import struct
import threading
import warnings
import zlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vexbench.errors import VexbenchError

RGB = UInt8[np.ndarray, "H W 3"]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 100_000_000
"""A larger image is taken for a decompression bomb."""

# what Pillow's decoders raise on damaged files; an UnidentifiedImageError is an OSError
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)


def decode(path: Path, size: int | None = None) -> RGB:
    """Read an image as 8-bit RGB; with a size, squashed to (size, size, 3) by antialiased bilinear resampling.

    Grey is repeated, transparency is laid over white, 16 bits are scaled to 8, EXIF orientation is applied.

    Raises
    ------
    VexbenchError
        The file is missing, empty, truncated, not an image, or of more than `MAX_PIXELS` pixels.
    """
    if not path.is_file():
        raise VexbenchError(f"image {path}: {'is a folder' if path.is_dir() else 'does not exist'}; check the path.")
    if path.stat().st_size == 0:
        raise VexbenchError(f"image {path}: the file is empty (0 bytes); remove or replace it.")
    try:
        with _quiet(), Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            rgb = _rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError:
        raise VexbenchError(f"image {path}: not an image of a known format; remove or convert it.") from None
    except Image.DecompressionBombError:
        raise VexbenchError(f"image {path}: more than {MAX_PIXELS:,} pixels; scale it down first.") from None
    except DAMAGE as error:
        raise VexbenchError(f"image {path}: truncated or damaged ({error}); remove or replace it.") from None
    if size is not None and rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.array(rgb)


def _quiet() -> AbstractContextManager[object]:
    """Metadata that Pillow grumbles about does not hurt the pixels.

    Filters belong to all threads, and two that put them back would leave them off: a pool of threads is quietened
    by who starts it.
    """
    alone = threading.current_thread() is threading.main_thread()
    return warnings.catch_warnings(action="ignore") if alone else nullcontext()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # convert("L") would clip at 255; 65535 / 257 = 255
        levels = np.asarray(image).astype(np.float64).clip(0, 65535)
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
