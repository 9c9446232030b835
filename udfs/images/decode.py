"""An image file in memory becomes a picture, whatever its name says.

What a file is follows from its first bytes. JPEG, most of what there is, goes to libjpeg-turbo,
which decodes to a smaller size for less where less is enough; all else, and whatever libjpeg-turbo
does not take, goes to Pillow. Of an animation or a file of several pages the first is taken.

Reasons: `empty_file`, `not_an_image` (of no kind that is read), `truncated`, `corrupt`,
`unsupported_mode` (colours that nothing here converts), `too_many_pixels`, `too_small`.
"""

from __future__ import annotations

from udfs.images.jpeg import NotForTurbo, decode_jpeg
from udfs.images.picture import Limits, Picture, Rejected
from udfs.images.with_pillow import decode_with_pillow

__all__ = ["Limits", "Picture", "Rejected", "decode"]

_JPEG_MAGIC = b"\xff\xd8\xff"


def decode(
    content: bytes, *, enough_px: int | None = None, limits: Limits | None = None
) -> Picture:
    """The picture in `content`, upright, gray or RGB.

    With `enough_px` a picture whose longest side is larger may come smaller, but not below that.
    Raises Rejected with the reason.
    """
    limits = limits or Limits()
    if not content:
        raise Rejected("empty_file")
    if content.startswith(_JPEG_MAGIC):
        try:
            return decode_jpeg(content, enough_px, limits)
        except NotForTurbo:
            pass
    return decode_with_pillow(content, limits)
