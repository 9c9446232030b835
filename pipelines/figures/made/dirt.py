"""Everything that can be wrong with an image or a caption, made on purpose and true to its name."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.figures.made.canvas import Pixels
from pipelines.figures.made.draw import jpeg, png, saved

BOMB_SIDE_PX = 20_000
_EXIF_ORIENTATION = 0x0112

Dirty = Callable[[Pixels, int, random.Random], tuple[str, bytes | None]]
"""From a drawn image, a figure's number and chance to the name's ending and the bytes; None where
the file is missing."""


def _image(pixels: npt.NDArray) -> Image.Image:
    return Image.fromarray(pixels)


def _truncated(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    data = jpeg(pixels)
    return "jpg", data[: int(len(data) * rnd.uniform(0.3, 0.8))]


def _not_an_image(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    page = f"<html><head><title>403 Forbidden</title></head><body>Request {number}</body></html>"
    return "jpg", page.encode()


def _wrong_extension(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    return ("png", jpeg(pixels)) if rnd.random() < 0.5 else ("jpg", png(pixels))


def _zero_bytes(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    return "jpg", b""


def _missing(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, None]:
    return "jpg", None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@lru_cache(maxsize=1)
def _bomb_data() -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + BOMB_SIDE_PX // 8)
    return b"".join((*(packer.compress(row) for _ in range(BOMB_SIDE_PX)), packer.flush()))


def _bomb(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    """A whole PNG of BOMB_SIDE_PX squared in about 50 kB."""
    header = struct.pack(">IIBBBBB", BOMB_SIDE_PX, BOMB_SIDE_PX, 1, 0, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tEXt", b"Comment\0%d" % number),
        (b"IDAT", _bomb_data()),
        (b"IEND", b""),
    )
    return "png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(k, d) for k, d in chunks)


def _animated_gif(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    frames = [_image(np.roll(pixels, 9 * n, axis=1)).convert("P") for n in range(3)]
    more = {"save_all": True, "append_images": frames[1:], "duration": 200}
    return "gif", saved(frames[0], "GIF", **more)


def _multi_page_tiff(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    pages = [_image(pixels), _image(np.ascontiguousarray(pixels[::-1]))]
    return "tif", saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])


def _gray(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else np.asarray(_image(pixels).convert("L"))


def _png_16_bit(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    deep = _gray(pixels).astype(np.uint16) * 14 + 300  # as a CT with 12 of the 16 bits in use
    return "png", saved(_image(deep), "PNG", compress_level=1)


def _float_tiff(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    return "tif", saved(_image(_gray(pixels).astype(np.float32) / 255), "TIFF")


def _cmyk(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    return "jpg", saved(_image(pixels).convert("RGB").convert("CMYK"), "JPEG", quality=88)


def _palette_alpha(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    image = _image(pixels).convert("RGB").quantize(64)
    return "png", saved(image, "PNG", transparency=0, compress_level=1)


def _exif_rotated(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    """Stored on its side, and a tag says to turn it back."""
    exif = Image.Exif()
    turn, orientation = rnd.choice(((1, 6), (3, 8)))
    exif[_EXIF_ORIENTATION] = orientation
    stored = np.ascontiguousarray(np.rot90(pixels, turn))
    return "jpg", saved(_image(stored), "JPEG", quality=88, exif=exif)


def _one_pixel(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    colour = [rnd.randrange(256) for _ in range(3)]
    return "png", png(np.array([[colour]], dtype=np.uint8))


def _blank(pixels: Pixels, number: int, rnd: random.Random) -> tuple[str, bytes]:
    return "jpg", jpeg(np.full_like(pixels, rnd.choice((0, 128, 255, rnd.randrange(256)))))


IMAGE_DIRT: Mapping[str, Dirty] = {
    "truncated": _truncated,
    "not_an_image": _not_an_image,
    "zero_bytes": _zero_bytes,
    "missing_image": _missing,
    "decompression_bomb": _bomb,
    "one_pixel": _one_pixel,
    "blank": _blank,
}
"""Images that nobody can train from."""

IMAGE_FLAWS: Mapping[str, Dirty] = {
    "wrong_extension": _wrong_extension,
    "animated_gif": _animated_gif,
    "multi_page_tiff": _multi_page_tiff,
    "png_16_bit": _png_16_bit,
    "float_tiff": _float_tiff,
    "cmyk_jpeg": _cmyk,
    "palette_alpha": _palette_alpha,
    "exif_rotated": _exif_rotated,
}
"""Images in forms that a careful decoder reads; the first frame of several is the figure."""

DirtyCaption = Callable[[str, str, random.Random], str | None]
"""From a caption, the image's file name and chance to what is delivered as the caption."""

_PLACEHOLDERS = (
    "Figure", "Image", "N/A", "none", "See text", "Click here for additional data file.", "TBD",
    "-", "No caption available", "Fig. 2", "?",
)  # fmt: skip
_GERMAN = (
    "Die Röntgenaufnahme des Thorax zeigt bei einem {n}-jährigen Patienten einen Rundherd im "
    "rechten Oberlappen mit einem Durchmesser von {p} mm; kein Pleuraerguss.",
    "Die Computertomographie des Abdomens einer {n}-jährigen Frau zeigt eine hypodense Läsion in "
    "der Leber, die nach {p} Tagen kleiner geworden ist.",
)
_FRENCH = (
    "Radiographie du thorax d'un homme de {n} ans montrant une opacité arrondie de {p} mm dans le "
    "lobe supérieur droit, sans épanchement pleural.",
    "L'IRM cérébrale d'une patiente âgée de {n} ans révèle une lésion du lobe frontal gauche, "
    "contrôlée après {p} jours de traitement.",
)
_CHINESE = (
    "患者，{n}岁，胸部X线片显示右肺上叶有一个直径{p}毫米的圆形结节，未见胸腔积液。",  # noqa: RUF001
    "{n}岁女性患者腹部增强CT显示肝脏低密度病灶，治疗{p}天后复查明显缩小。",  # noqa: RUF001
)


def _say(texts: tuple[str, ...], rnd: random.Random) -> str:
    return rnd.choice(texts).format(n=rnd.randint(21, 89), p=rnd.randint(8, 60))


CAPTION_DIRT: Mapping[str, DirtyCaption] = {
    "placeholder": lambda text, name, rnd: rnd.choice(_PLACEHOLDERS),
    "empty": lambda text, name, rnd: rnd.choice((None, "", "   ", "\u00a0\n")),
    "file_name": lambda text, name, rnd: name,
    "german": lambda text, name, rnd: _say(_GERMAN, rnd),
    "french": lambda text, name, rnd: _say(_FRENCH, rnd),
    "chinese": lambda text, name, rnd: _say(_CHINESE, rnd),
}
"""Captions that nobody can train from."""

CAPTION_FLAWS: Mapping[str, DirtyCaption] = {
    "stringified_list": lambda text, name, rnd: str([text]),
    "html": lambda text, name, rnd: (
        f'<p class="caption"><b>{text.split(" ")[0]}</b> <i>{" ".join(text.split(" ")[1:])}</i>'
        "<br/><sup>1</sup></p>"
    ),
}
"""Captions in forms that cleaning can mend."""
