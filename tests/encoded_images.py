"""Image files of kinds that Pillow reads but does not write, from their pixels, as the formats' specifications say."""

import struct
import zlib

import numpy as np


def packed(values: np.ndarray, bits: int, *, order: str = ">") -> list[bytes]:
    """Return the bytes of each row of `values` (rows, ...), with so many bits per value."""
    rows = values.reshape(len(values), -1)
    if bits == 16:
        return [row.astype(f"{order}u2").tobytes() for row in rows]
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits((row[:, None] >> shifts) & 1).tobytes() for row in rows]


def png(values: np.ndarray, *, bits: int, colour_type: int, **chunks: bytes) -> bytes:
    """Return a PNG of samples (rows, columns, channels); `chunks` come before the pixels."""

    def chunk(kind: str, content: bytes) -> bytes:
        body = kind.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed(values, bits)))
    parts = {"IHDR": header, **chunks, "IDAT": pixels, "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts.items())


def tiff(
    values: np.ndarray,
    *,
    bits: int,
    photometric: int,
    tags: dict[int, list[int] | None] | None = None,
    order: str = "<",
    compressed: bool = False,
    separate: bool = False,
) -> bytes:
    """Return a TIFF of samples (rows, columns, channels).

    tags: more tags, each a list of whole numbers; None leaves one out.
    """
    height, width, channels = values.shape
    planes = [values[..., [channel]] for channel in range(channels)] if separate else [values]
    strips = [b"".join(packed(plane, bits, order=order)) for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if compressed else strips
    offsets = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    fields = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if compressed else 1], 262: [photometric]}
    fields |= {273: offsets, 277: [channels], 278: [height], 279: list(map(len, strips)), 284: [1 + separate]}
    body, entries = b"".join(strips), b""
    fields |= tags or {}
    for tag, numbers in sorted((tag, numbers) for tag, numbers in fields.items() if numbers is not None):
        content = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(content) > 4:
            content, body = struct.pack(f"{order}I", 8 + len(body)), body + content
        entries += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + content.ljust(4, b"\0")
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(entries) // 12) + entries + bytes(4)


def bmp(values: np.ndarray, *, bits: int, palette: np.ndarray) -> bytes:
    """Return a BMP of palette indices (rows, columns), with a palette (colours, 3) in RGB."""
    rows = [row.ljust(-(-len(row) // 4) * 4, b"\0") for row in packed(values[::-1], bits)]
    colours = b"".join(bytes(colour[::-1]) + b"\0" for colour in palette.astype(np.uint8))
    start, pixels = 54 + len(colours), b"".join(rows)
    header = struct.pack("<IiiHHIIiiII", 40, *values.shape[::-1], 1, bits, 0, len(pixels), 0, 0, len(palette), 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + colours + pixels
