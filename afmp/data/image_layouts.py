"""The ways of storing pixels that are read for certain, by format.

Pillow also opens files whose values it hands over as they lie in the file: a grey of 12 bits as one of 16, a white that
is 0 as black. Here is what remains: its pixels were compared with what each format's specification says of them.
Profiles of colour and gamma are never applied.
"""

from PIL import Image

# Bits per pixel of a BMP by Pillow's name of the layout. Pillow takes a palette of black and white for 1 bit per pixel.
BMP_BITS = {"1": 1, "P;1": 1, "P;4": 4, "L": 8, "P": 8, "BGR;15": 16, "BGR;16": 16, "BGR": 24} | dict.fromkeys(
    ("BGRX", "XBGR", "BGXR", "ABGR", "RGBA", "BGRA", "BGAR"), 32
)
# TIFF: bits of the samples, by PhotometricInterpretation, with the number of colours. One more sample is alpha.
TIFF_BITS = {
    0: (1, ((1,), (2,), (4,), (8,))),  # grey, 0 is white
    1: (1, ((1,), (2,), (4,), (8,), (16,), (8, 8))),  # grey, 0 is black
    2: (3, ((8,) * 3, (8,) * 4, (16,) * 3, (16,) * 4)),  # RGB
    3: (1, ((1,), (2,), (4,), (8,))),  # palette
    5: (4, ((8,) * 4,)),  # CMYK
    6: (3, ((8,) * 3,)),  # YCbCr
}
# TIFF: tags that change what the samples mean, with the values that change nothing; FULL is the largest of a sample.
FULL = "full"
TIFF_TAGS = {
    "NewSubfileType": (254, {0, 2}),
    "SubfileType": (255, {1, 3}),
    "FillOrder": (266, {1}),
    "Orientation": (274, {1}),
    "GrayResponseCurve": (291, set()),
    "InkSet": (332, {1}),
    "SampleFormat": (339, {1}),
    "SMinSampleValue": (340, {0}),
    "SMaxSampleValue": (341, {FULL}),
    "Indexed": (346, {0}),
    "Decode": (433, set()),
}


def check_layout(image: Image.Image) -> None:
    """Raise ValueError unless the pixels of an opened image, not yet decoded, are stored in a way known here."""
    match image.format:
        case "BMP" if BMP_BITS.get(layout(image)) != _bmp_bits(image.fp):
            raise ValueError("its palette has too few colours for its bits per pixel; save it as PNG")
        case "GIF" if image.tile[0][1] != (0, 0, *image.size) and "transparency" not in image.info:
            raise ValueError("a part of it is in no frame; save it as PNG")
        case "JPEG" | "MPO" if image.layers == 4 and "adobe" not in image.info:
            raise ValueError("CMYK without the mark that tells whether it is inverted; save it as RGB")
        case "PNG" if layout(image) == "RGB;16B" and "transparency" in image.info:
            raise ValueError("a transparent colour of 16 bits; save it with 8 bits")
        case "TIFF":
            _check_tiff(image)


def layout(image: Image.Image) -> str:
    """Return Pillow's name of the layout of an opened image, its raw mode."""
    arguments = image.tile[0][3] if image.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _bmp_bits(file) -> int:
    file.seek(14)
    header = file.read(16)
    return int.from_bytes(header[10:12] if header[0] == 12 else header[14:16], "little")


def _check_tiff(image: Image.Image) -> None:
    def tag(number: int, default: tuple = ()) -> tuple:
        found = image.tag_v2.get(number, default)
        return found if isinstance(found, tuple) else (found,)

    (photometric, *_), (planes, *_) = tag(262, (None,)), tag(284, (1,))
    bits, extra, compression = tag(258, (1,)), tag(338), image.info["compression"]
    bits = bits * tag(277, (1,))[0] if len(bits) == 1 else bits  # one number for all samples
    if max(bits) > 16:
        raise ValueError(f"samples of {max(bits)} bits have no fixed range; save it with 8 or 16 bits")
    colours, known_bits = TIFF_BITS.get(photometric, (0, ()))
    if (
        bits not in known_bits
        or len(extra) != len(bits) - colours
        or not {*extra} <= {0, 1, 2}
        or (planes != 1 and bits not in ((8,) * 3, (8,) * 4))  # of others Pillow reads planes as 8 bits, white as 255
        or (photometric == 6 and compression != "jpeg")  # how far apart its colours lie is only sure in a JPEG
        or (photometric == 5 and compression == "jpeg")  # nothing says whether it is inverted
        or compression == "tiff_jpeg"  # the old kind, of which Pillow takes every image for YCbCr
    ):
        raise ValueError(
            f"bits {bits[:9]}, photometric interpretation {photometric}, extra samples {extra}, planar configuration "
            f"{planes} and compression {compression} are not read together; save it as RGB with 8 bits"
        )
    for name, (number, plain) in TIFF_TAGS.items():
        found = tag(number)
        allowed = {2 ** bits[0] - 1 if value is FULL else value for value in plain}
        if not {*found} <= allowed and not (name == "FillOrder" and bits == (1,)):  # a fax has any order of bits
            raise ValueError(f"its tag {name} is {str(found)[:40]}, which is not applied; save it as plain RGB")
    # By the specification only statistics. But cameras of 10, 12 or 14 bits tell their range here.
    if bits[0] == 16 and tag(281) and max(tag(281)) != 65535:
        raise ValueError(f"16 bits, of which MaxSampleValue {tag(281)} may be the white; save it with 8 bits")
    # One tile is decoded into memory of its own, however small the image is.
    if max(tag(322, (0,))) * max(tag(323, (0,))) > Image.MAX_IMAGE_PIXELS:
        raise ValueError("its tiles are larger than any image that is read")
