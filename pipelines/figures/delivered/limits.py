"""What a single image of a delivery, or a member of an archive, may be."""

from __future__ import annotations

from dataclasses import dataclass

TOO_LARGE, BROKEN, ENCRYPTED, BOMB = "too_large", "broken_member", "encrypted", "decompression_bomb"
OUTSIDE, MISSING, AMBIGUOUS = "outside_of_folder", "not_found", "ambiguous_name"
NOT_A_FILE, UNREADABLE, UNSUPPORTED = "not_a_file", "unreadable", "unsupported_compression"
NONE_NAMED = "none_named"


@dataclass(frozen=True)
class Limits:
    """Beyond `image_bytes` an image is left out; a member that unpacks to more than
    `ratio` times its packed size and more than `small_bytes` is a decompression bomb."""

    image_bytes: int = 256 << 20
    ratio: int = 200
    small_bytes: int = 10 << 20

    def fault(self, packed: int, size: int) -> str | None:
        """What speaks against a member of that size, None for nothing."""
        if size > self.small_bytes and size > self.ratio * max(packed, 1):
            return BOMB
        return TOO_LARGE if size > self.image_bytes else None


def unsafe_name(name: str) -> bool:
    """Whether a member's name leads out of its folder: absolute, a drive, or a part `..`."""
    path = name.replace("\\", "/")
    return path.startswith("/") or ":" in path.split("/")[0] or ".." in path.split("/")
