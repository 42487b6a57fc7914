"""What several commands share: the parser, exit codes, and the options of engine, encoder and messages."""

from __future__ import annotations

import argparse
import re
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

from rtstyle.errors import SettingError

if TYPE_CHECKING:
    from rtstyle.video import EncoderSettings

DONE, FAILED, USAGE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; DAMAGED: finished, but the input was damaged."""

# As in rtstyle.backends, which would load numpy here; a test compares them.
BACKEND_WORDS = ("auto", "tensorrt", "openvino", "onnxruntime", "torch")
PRECISION_WORDS = ("auto", "f32", "bf16", "f16", "int8")
SIZE_CLASS_WORDS = ("auto", "fast", "default", "fine")


class Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with ``USAGE``."""
        print(f"rtstyle: error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(USAGE)


def add_command(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """Add a command with its line in the list and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False
    )
    return parser


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --style, --strength, --keep-colors, --size-class, --stroke-size, --backend, --precision, --device."""
    default = " (default: %(default)s)"
    group = parser.add_argument_group("style and engine")
    group.add_argument("--style", default="sketch", metavar="S", help="name, folder, or blend a:0.6,b:0.4" + default)
    group.add_argument(
        "--strength", type=float, default=1.0, metavar="X", help="0 the source, 1 the style, up to 2" + default
    )
    group.add_argument("--keep-colors", action="store_true", help="keep the colours of the source")
    group.add_argument(
        "--size-class",
        choices=SIZE_CLASS_WORDS,
        default="auto",
        help="of the network: fast is nearly the same for less than half; auto is default, live fast where this "
        "machine would drop frames" + default,
    )
    group.add_argument(
        "--stroke-size",
        type=_stroke_size,
        default="auto",
        metavar="X",
        help="times as large as the network draws strokes, 0.5 to 8; auto goes by the picture" + default,
    )
    group.add_argument("--backend", choices=BACKEND_WORDS, default="auto", help="engine to run on" + default)
    group.add_argument("--precision", choices=PRECISION_WORDS, default="auto", help="of the network" + default)
    group.add_argument("--device", metavar="D", help="the backend's own name of a device, e.g. CPU, cuda:1")


def _stroke_size(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a stroke size is auto or a number from 0.5 to 8, got {text!r}") from None


def add_message_options(parser: argparse.ArgumentParser) -> None:
    """Add --json, --quiet, -v."""
    group = parser.add_argument_group("messages")
    group.add_argument("--json", action="store_true", help="print one object on stdout, nothing else there")
    group.add_argument("--quiet", action="store_true", help="no progress and no summary; warnings and errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="tell more on stderr")


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``encoder_settings`` reads, and -y."""
    group = parser.add_argument_group("encoder")
    group.add_argument("--codec", metavar="C", help="h264, hevc, av1, vp9, prores, ffv1... (default: by OUT's ending)")
    group.add_argument("--crf", type=int, metavar="N", help="constant quality, 0 is best (default: 18 for h264)")
    group.add_argument("--preset", metavar="P", help="time for bytes; auto measures (default: veryfast for h264)")
    group.add_argument("--bitrate", metavar="B", help="mean bits per second instead of --crf, as 800k or 5M")
    group.add_argument("--pix-fmt", metavar="F", help="pixel format, as yuv444p or yuv420p10le")
    group.add_argument("-y", "--overwrite", action="store_true", help="replace an output that exists")


def encoder_settings(args: argparse.Namespace) -> EncoderSettings:
    """Return the settings that the encoder options ask for."""
    from rtstyle.video import EncoderSettings

    return EncoderSettings(
        codec=args.codec, crf=args.crf, preset=args.preset, bitrate=bits(args.bitrate), pix_fmt=args.pix_fmt
    )


def bits(text: str | None, option: str = "--bitrate") -> int | None:
    """Read ``800k`` or ``5M``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    if not match:
        raise SettingError(f"{option} is bits per second, as 800k or 5M; got {text!r}")
    return round(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def moment(text: str) -> Fraction:
    """Read seconds, or H:MM:SS.mmm, exactly."""
    try:
        seconds = Fraction(0)
        for part in text.split(":"):
            seconds = 60 * seconds + Fraction(part)
        if seconds >= 0:
            return seconds
    except (ValueError, ZeroDivisionError):
        pass
    raise argparse.ArgumentTypeError(f"a moment is seconds or H:MM:SS.mmm, as in 90.5 or 1:30.5; got {text!r}")
