"""Damage as a failing disk does it."""


def flipped(content: bytes, position: int) -> bytes:
    """Return `content` with one bit of the byte at `position` changed."""
    changed = bytearray(content)
    changed[position] ^= 1 << position % 8
    return bytes(changed)
