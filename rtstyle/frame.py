"""Frame, the image that travels through rtstyle, and what its samples mean.

Inside, there is one pixel layout: planar YUV 4:2:0, 8 bits, as decoders, encoders and cameras speak
it. RGB exists at the edges only (a window, a JPEG), and is made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rtstyle.errors import SettingError

if TYPE_CHECKING:
    from rtstyle.canvas.field import Field
    from rtstyle.canvas.map import CanvasMap

Plane = NDArray[np.uint8]


class Planes(NamedTuple):
    """The samples of one image: uint8, any strides, only ever read by those who did not make them.

    Arrays that are read-only are never written to again: a sink may keep them instead of copying.
    """

    y: Plane
    """Shape (height, width)."""
    u: Plane
    """Shape (height / 2, width / 2), both rounded up."""
    v: Plane
    """Shape of ``u``."""


def as_i420(planes: Planes) -> Plane | None:
    """Return planes of even size as one array (height * 3 / 2, width), where they lie so in memory; else None.

    Nothing is copied: the array keeps the planes' memory alive, and an encoder may read from it.
    """
    (height, width), where = planes.y.shape, planes.y.ctypes.data
    if height % 2 or width % 2 or planes.y.strides != (width, 1):
        return None
    for number, plane in enumerate((planes.u, planes.v)):
        begin = where + height * width + number * (height * width // 4)
        if plane.ctypes.data != begin or plane.strides != (width // 2, 1):
            return None
    return np.lib.stride_tricks.as_strided(planes.y, (height * 3 // 2, width), (width, 1), writeable=False)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height of an image in pixels of luma."""

    width: int
    height: int

    def __post_init__(self) -> None:
        for side in (self.width, self.height):
            if not isinstance(side, Integral) or side < 1:
                raise SettingError(f"a size is Size(width, height) in whole pixels, got {self.width} x {self.height}")

    @property
    def chroma(self) -> Size:
        """Size of the U and V planes."""
        return Size((self.width + 1) // 2, (self.height + 1) // 2)

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``1280x720``.

        Raises:
            SettingError: It is not of that form, or smaller than 16x16.
        """
        match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
        if not match or int(match[1]) < 16 or int(match[2]) < 16:
            raise SettingError(f"a size is WIDTHxHEIGHT of at least 16x16, as in 1280x720; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def check_is_size(size: object) -> None:
    """Raise SettingError for what is no ``Size``, such as a tuple or the shape of an array."""
    if not isinstance(size, Size):
        raise SettingError(f"a size is Size(width, height), got {size!r}"[:200])


Matrix = Literal["bt601", "bt709", "bt2020"]

_LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {  # Kr and Kb; ITU-T H.273, table 4
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


@dataclass(frozen=True, slots=True)
class ColorTags:
    """What the container says of color, as the numbers of ITU-T H.273; 2 (range: 0) is unspecified."""

    matrix: int = 2
    range: int = 0
    """FFmpeg's: 0 unspecified, 1 limited (tv, mpeg), 2 full (pc, jpeg)."""
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True, slots=True)
class Color:
    """How samples are read as color, and the tags that travel with them unchanged."""

    matrix: Matrix = "bt709"
    full_range: bool = False
    """True: Y in 0..255 (pc, jpeg). False: Y in 16..235, U and V in 16..240 (tv, mpeg)."""
    tags: ColorTags = field(default_factory=ColorTags)

    def __post_init__(self) -> None:
        if self.matrix not in _LUMA_WEIGHTS:
            raise SettingError(f"matrix of Color must be {', '.join(_LUMA_WEIGHTS)}, got {self.matrix!r}"[:200])

    @classmethod
    def from_tags(cls, tags: ColorTags, size: Size, *, full_range: bool = False) -> Color:
        """Read tags; where the matrix is unspecified, take BT.709 from 720 lines up and BT.601 below.

        Args:
            full_range: What is true where ``tags.range`` is unspecified.
        """
        matrices: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
        untagged: Matrix = "bt709" if min(size.width, size.height) >= 720 else "bt601"
        return cls(matrices.get(tags.matrix, untagged), tags.range == 2 if tags.range else full_range, tags)

    @property
    def centre(self) -> tuple[float, float, float]:
        """The sample values (Y, U, V) of middle grey."""
        return (127.5 if self.full_range else 125.5, 128.0, 128.0)

    def to_rgb(self) -> NDArray[np.float64]:
        """Return the 3x3 matrix from centred samples (Y, U, V minus ``centre``) to R, G, B around 0, in [-0.5, 0.5]."""
        kr, kb = _LUMA_WEIGHTS[self.matrix]
        kg = 1 - kr - kb
        luma, chroma = (1 / 255, 1 / 255) if self.full_range else (1 / 219, 1 / 224)
        red_v, blue_u = 2 * (1 - kr), 2 * (1 - kb)
        matrix = [[1, 0, red_v], [1, -kb * blue_u / kg, -kr * red_v / kg], [1, blue_u, 0]]
        return np.array(matrix) @ np.diag([luma, chroma, chroma])

    def to_canonical(self) -> NDArray[np.float64]:
        """Return the 3x3 matrix from centred samples to the generator's color: BT.709, full range, [-0.5, 0.5].

        Its first column is (k, 0, 0): grey stays grey, so chroma never depends on luma.
        """
        matrix: NDArray[np.float64] = np.linalg.inv(Color("bt709", full_range=True).to_rgb() * 255) @ self.to_rgb()
        matrix[1:, 0] = 0
        return matrix


@dataclass(frozen=True, slots=True, repr=False)
class Frame:
    """One frame of a video and the moment at which it is shown.

    Planes are what decoders and encoders speak; ``from_rgb`` and ``to_rgb`` convert at the edges. A notebook shows
    a frame as an image. The timestamp is the exact rational of the container (``pts * time_base`` seconds), never
    ``index / fps``: phone videos have a variable frame rate, and 30000/1001 is not 29.97.
    """

    planes: Planes
    pts: int
    """Presentation timestamp, in units of ``time_base``."""
    time_base: Fraction
    """Duration of one timestamp unit, in seconds, e.g. 1/90000."""
    color: Color
    canvas: tuple[int, int] = (0, 0)
    """Where the image's top left lies on the canvas, (x, y) in pixels; moves with the camera."""
    alpha: Plane | None = None
    """Opacity of each pixel, shape of ``planes.y``, uint8, 255 opaque; None: all are. Engines pass it on untouched."""
    captions: bytes = b""
    """Closed captions of this frame (CEA-608 and 708), as the triplets of ATSC A/53; engines pass them on untouched."""
    seen: Field | None = None
    """What was measured of the frame and those before it, for styles on a steered canvas; None: engines measure the
    frame by itself."""
    canvas_map: CanvasMap | None = None
    """How the canvas is deformed below the image, beyond that offset; moves with what the scene shows. None: not at
    all."""

    def __post_init__(self) -> None:
        if not isinstance(self.planes, Planes):
            raise SettingError(f"a frame needs Planes(y, u, v), got {type(self.planes).__name__}: see Frame.from_rgb")
        y, u, v = self.planes
        if any(getattr(plane, "dtype", None) != np.uint8 or plane.ndim != 2 for plane in self.planes):
            raise SettingError("the planes of a frame are arrays of uint8 in two dimensions: see Frame.from_rgb")
        half = ((y.shape[0] + 1) // 2, (y.shape[1] + 1) // 2)
        if not y.size or u.shape != half or v.shape != half:
            raise SettingError(f"u and v have half the rows and columns of y, {half}, got {u.shape} and {v.shape}")

    @property
    def size(self) -> Size:
        height, width = self.planes.y.shape
        return Size(width, height)

    @property
    def seconds(self) -> float:
        """Presentation time in seconds, for display; ``pts * time_base`` is exact."""
        return float(self.pts * self.time_base)

    @classmethod
    def from_rgb(
        cls,
        image: NDArray[np.uint8],
        *,
        pts: int = 0,
        time_base: Fraction = Fraction(1),
        color: Color = Color(),
    ) -> Frame:
        """Make a frame from an RGB array.

        Args:
            image: Shape (height, width, 3), uint8, RGB. Images of OpenCV are BGR: pass ``image[..., ::-1]``.
            pts: Presentation timestamp, in units of ``time_base``: frame n of 25 per second is
                ``pts=n, time_base=Fraction(1, 25)``.
            time_base: Duration of one timestamp unit, in seconds.
            color: The matrix and range of the planes; a ``FrameSource`` gives all of its frames in one.

        Raises:
            SettingError: The array has another shape or dtype.
        """
        return cls(planes_from_rgb(check_rgb(image), color), pts, time_base, color)

    def to_rgb(self) -> NDArray[np.uint8]:
        """Return the frame as a new RGB array of shape (height, width, 3), uint8, without ``alpha``.

        OpenCV wants BGR: ``frame.to_rgb()[..., ::-1]``.
        """
        return planes_to_rgb(self.planes, self.color)

    def with_planes(self, planes: Planes) -> Frame:
        """Return a frame of the same moment and color with other samples."""
        return replace(self, planes=planes)

    def __repr__(self) -> str:
        levels = "full" if self.color.full_range else "limited"
        return (
            f"Frame({self.size}, pts={self.pts}, time_base={self.time_base} ({self.seconds:.3f} s), "
            f"{self.color.matrix} {levels} range{', alpha' if self.alpha is not None else ''})"
        )

    def _repr_png_(self) -> bytes:
        """Return the frame as PNG, which Jupyter displays."""
        import cv2

        channels = [self.to_rgb()[..., ::-1]]
        if self.alpha is not None:
            channels.append(self.alpha[..., None])
        _, data = cv2.imencode(".png", np.ascontiguousarray(np.concatenate(channels, 2)))
        return bytes(data)


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What all frames of a video have in common."""

    size: Size
    color: Color
    time_base: Fraction
    """Duration of one unit of the frames' ``pts``, in seconds."""
    rate: Fraction | None = None
    """Frames per second; None where it is unknown."""
    pixel_aspect: Fraction | None = None
    """Width of a pixel over its height; None where it is unspecified."""


class FrameSource(Protocol):
    """Where frames come from: a file, a camera, your own code. A context manager that is iterated once.

    To write one, derive from this class, set ``size`` and define ``__iter__``; the rest has defaults. All frames
    have ``size`` and ``color``, and times that rise. ``stylize_video`` and ``stylize_live`` iterate a source in a
    thread of its own.
    """

    size: Size
    rate: Fraction | None = None
    """Frames per second as declared; None where the source does not declare them."""
    color: Color = Color()
    """The matrix and range of all frames."""
    live: bool = False
    """True: frames come when they come, and old ones may be dropped. False: frames wait to be taken."""

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class FrameSink(Protocol):
    """Where frames go: a file, a window, your own code. A context manager.

    To write one, derive from this class and define ``write``. ``__exit__`` is called once at the end, with the error
    that ended the run or with None.
    """

    def write(self, frame: Frame) -> None:
        """Take one frame. Its planes are copied or used up before the call returns."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


# -- RGB, at the edges ---------------------------------------------------------------------------


def check_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB image as an array of shape (height, width, 3), uint8; a PIL image is converted.

    Raises:
        SettingError: It is none; the message says what was passed and how to convert it.
    """
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3:
        remedy = ""
        if array.ndim == 2:
            remedy = "; repeat a gray one: numpy.stack([gray] * 3, axis=-1)"
        elif array.ndim == 3 and array.shape[2] == 4:
            remedy = "; leave the alpha channel out: image[..., :3]"
        elif array.ndim == 3 and array.shape[0] == 3:
            remedy = "; move the channels to the end: image.transpose(1, 2, 0)"
        raise SettingError(f"an image is an array of shape (height, width, 3), got {_array_words(array)}{remedy}")
    if array.dtype != np.uint8:
        remedy = "scale it to 0..255 and convert it with .astype(numpy.uint8)"
        raise SettingError(f"an image is an array of dtype uint8, got {_array_words(array)}: {remedy}")
    return array


def _array_words(array: NDArray[np.generic]) -> str:
    return f"shape {array.shape}, dtype {array.dtype}" if array.ndim else f"{array.dtype} {str(array)[:60]}"


def resized_planes(planes: Planes, size: Size) -> Planes:
    """Return the planes in another size: averaged where that is smaller, interpolated where it is larger."""
    import cv2

    how = cv2.INTER_AREA if size.width < planes.y.shape[1] else cv2.INTER_LINEAR
    sizes = (size, size.chroma, size.chroma)
    return Planes(
        *(
            np.asarray(cv2.resize(np.ascontiguousarray(plane), (to.width, to.height), interpolation=how), np.uint8)
            for plane, to in zip(planes, sizes, strict=True)
        )
    )


def reduced_plane(plane: Plane, size: Size) -> Plane:
    """Return a plane in a smaller size; above half the size interpolated, which is as good as averaging and faster."""
    import cv2

    how = cv2.INTER_LINEAR if 2 * size.width >= plane.shape[1] else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, (size.width, size.height), interpolation=how), np.uint8)


def planes_to_rgb(planes: Planes, color: Color) -> NDArray[np.uint8]:
    """Convert samples to RGB of shape (height, width, 3), uint8; chroma is interpolated."""
    return RgbConverter().convert(planes, color)


class RgbConverter:
    """Converts one image after the other to RGB in buffers that it keeps: to get fresh memory from the system
    for each can cost more than the sums."""

    def __init__(self) -> None:
        self._chroma: list[Plane] = []
        self._samples = self._rgb = np.empty((0, 0, 3), np.uint8)

    def convert(self, planes: Planes, color: Color) -> NDArray[np.uint8]:
        """Convert as ``planes_to_rgb``; the returned array is written to again by the next call."""
        import cv2

        height, width = planes.y.shape
        chroma_height, chroma_width = planes.u.shape
        if self._samples.shape[:2] != (height, width):
            self._chroma = [np.empty((2 * chroma_height, 2 * chroma_width), np.uint8) for _ in range(2)]
            self._samples, self._rgb = (np.empty((height, width, 3), np.uint8) for _ in range(2))
        for plane, wide in zip((planes.u, planes.v), self._chroma, strict=True):
            cv2.resize(np.ascontiguousarray(plane), wide.shape[::-1], dst=wide, interpolation=cv2.INTER_LINEAR)
        cv2.merge([np.ascontiguousarray(planes.y), *(wide[:height, :width] for wide in self._chroma)], self._samples)
        matrix = 255 * color.to_rgb()
        offset = 127.5 - matrix @ np.array(color.centre)
        cv2.transform(self._samples, np.column_stack((matrix, offset)), self._rgb)
        return self._rgb


def planes_from_rgb(rgb: NDArray[np.uint8], color: Color) -> Planes:
    """Convert RGB of shape (height, width, 3), uint8, to new planes; chroma is the mean of each 2x2 pixels."""
    import cv2

    height, width = rgb.shape[:2]
    matrix = np.linalg.inv(255 * color.to_rgb())
    offset = np.array(color.centre) - matrix @ np.full(3, 127.5)
    samples = cv2.transform(np.ascontiguousarray(rgb), np.column_stack((matrix, offset)))
    half = ((width + 1) // 2, (height + 1) // 2)
    chroma = cv2.copyMakeBorder(samples[..., 1:], 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    chroma = cv2.resize(chroma, half, interpolation=cv2.INTER_AREA)
    parts = (samples[..., 0], chroma[..., 0], chroma[..., 1])
    return Planes(*(np.ascontiguousarray(part, np.uint8) for part in parts))


# -- the generator's layout ----------------------------------------------------------------------

MAX_PIXELS = 1 << 27
"""Pixels of the largest frame that is decoded, 16384x8192: a damaged header asks for more than there is memory."""

CELL = 4
"""Pixels of luma per side of a cell of a packed image."""

MARGIN = 8
"""Pixels of replicated edge around an image, so that the network never sees a false edge; whole cells."""


class Packing:
    """Turns images of one size into the generator's layout and back.

    A packed image is space-to-depth'ed by 4: shape (rows, columns, 24), uint8, with 16 channels of Y,
    4 of U and 4 of V, each in row order within its cell of 4x4 pixels; ``MARGIN`` pixels of replicated
    edge around it, and more at right and bottom until rows and columns are even.
    """

    channels = 24

    def __init__(self, size: Size) -> None:
        self.size = size
        self.rows, self.columns = (2 * (-(-(side + 2 * MARGIN) // (2 * CELL))) for side in (size.height, size.width))
        height, width = self.rows * CELL, self.columns * CELL
        chroma = np.empty((height // 2, width // 2), np.uint8)
        self._padded = Planes(np.empty((height, width), np.uint8), chroma, chroma)

    def pack(self, planes: Planes, out: Plane) -> None:
        """Write an image into ``out``: shape (rows, columns, 24), uint8, C-contiguous."""
        self.pack_luma(planes.y, out)
        self.pack_chroma(planes.u, out[..., 16:])
        self.pack_chroma(planes.v, out[..., 20:])

    def pack_luma(self, plane: Plane, out: Plane) -> None:
        """Write luma into the first 16 channels of ``out``, shape (rows, columns, a multiple of 4)."""
        _pad(plane, self._padded.y, MARGIN)
        luma = out.view(np.uint32)
        for row in range(4):
            luma[..., row] = self._padded.y[row::4].view(np.uint32)

    def pack_chroma(self, plane: Plane, out: Plane) -> None:
        """Write a plane of chroma into the first 4 channels of ``out``, shape (rows, columns, an even number)."""
        _pad(plane, self._padded.u, MARGIN // 2)
        chroma = out.view(np.uint16)
        for row in range(2):
            chroma[..., row] = self._padded.u[row::2].view(np.uint16)

    def unpack(self, packed: Plane) -> Planes:
        """Return new planes of ``size`` from a packed image.

        Where the size is whole cells, they lie one behind the other and are read-only, so that an encoder may keep them
        as they are (``as_i420``); else they are views of larger arrays.
        """
        width, height, edge = self.size.width, self.size.height, MARGIN // CELL
        if width % CELL or height % CELL:
            planes = _unpacked(packed)
            half, chroma = MARGIN // 2, self.size.chroma
            rows, columns = slice(half, half + chroma.height), slice(half, half + chroma.width)
            y = planes.y[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
            return Planes(y, planes.u[rows, columns], planes.v[rows, columns])
        planes = _unpacked(packed[edge : edge + height // CELL, edge : edge + width // CELL])
        for plane in planes:
            plane.flags.writeable = False
        return planes


def _pad(plane: Plane, padded: Plane, margin: int) -> None:
    """Write a plane into a larger one, ``margin`` from its top and left, and repeat its edges."""
    height, width = plane.shape
    bottom, right = margin + height, margin + width
    padded[margin:bottom, margin:right] = plane
    padded[margin:bottom, :margin] = plane[:, :1]
    padded[margin:bottom, right:] = plane[:, -1:]
    padded[:margin] = padded[margin]
    padded[bottom:] = padded[bottom - 1]


def _unpacked(cells: Plane) -> Planes:
    """Return the planes of cells, shape (rows, columns, 24), one behind the other in new memory."""
    height, width = cells.shape[0] * CELL, cells.shape[1] * CELL
    whole = np.empty((height * 3 // 2, width), np.uint8)
    y, (u, v) = whole[:height], whole[height:].reshape(2, height // 2, width // 2)
    luma, chroma = cells.view(np.uint32), cells.view(np.uint16)
    for row in range(4):
        y[row::4].view(np.uint32)[:] = luma[..., row]
    for row in range(2):
        u[row::2].view(np.uint16)[:] = chroma[..., 8 + row]
        v[row::2].view(np.uint16)[:] = chroma[..., 10 + row]
    return Planes(y, u, v)
