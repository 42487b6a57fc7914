"""What several commands share: the parser, exit codes, and the options of engine, encoder and messages."""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rtstyle.errors import SettingError

if TYPE_CHECKING:
    from rtstyle.backends import EngineSettings
    from rtstyle.mask import MaskSettings
    from rtstyle.video import EncoderSettings

DONE, FAILED, USAGE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; DAMAGED: finished, but the input was damaged."""

# As in rtstyle.backends, which would load numpy here; a test compares them.
BACKEND_WORDS = ("auto", "tensorrt", "openvino", "onnxruntime", "torch")
PRECISION_WORDS = ("auto", "f32", "bf16", "f16", "int8")
SIZE_CLASS_WORDS = ("auto", "fast", "default", "fine")
FOLLOW_WORDS = ("auto", "flow", "camera", "off")


class UsageError(Exception):
    """The words of the command line cannot be understood; the message is one line."""


class Help(argparse.HelpFormatter):
    """Argparse's layout; lines that are indented already, as examples are, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n  " in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Argparse whose errors are one line that names the nearest word that exists."""

    def __init__(self, *, prog: str | None = None, description: str | None = None, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=Help, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with one line."""
        if match := re.match(r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)$", message):
            what, word, choices = match[1], match[2], [choice.strip(" '") for choice in match[3].split(",")]
            kind = {"COMMAND": "there is no command", "ACTION": "there is no action"}.get(what, f"{what} cannot be")
            message = f"{kind} {word!r}{nearest(word, choices)} (choose from {', '.join(choices)})"
        raise UsageError(f"{message} (see {self.prog} --help)")

    def refuse(self, words: list[str]) -> NoReturn:
        """Raise UsageError for words that are left over, with the option that may have been meant."""
        known = [option for action in self._actions for option in action.option_strings]
        hints = [nearest(word.partition("=")[0], known) for word in words if word.startswith("-")]
        self.error(f"unrecognized arguments: {' '.join(words)}{next(filter(None, hints), '')}")


def nearest(word: str, choices: list[str]) -> str:
    """Return ``; did you mean '--style'?`` for the choice that is nearest to a word; empty where none is near."""
    import difflib

    near = difflib.get_close_matches(word, choices, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def add_command(
    commands: Any, name: str, summary: str, description: str, usage: str, examples: dict[str, str]
) -> Parser:
    """Add a command with its line in the list and return its parser.

    Args:
        usage: What follows the command, in short.
        examples: What follows the command, and what that does.
    """
    parser: Parser = commands.add_parser(name, help=summary, description=description)
    parser.usage = f"{parser.prog} {usage}".rstrip()
    lines = {f"{parser.prog} {words}".rstrip(): what for words, what in examples.items()}
    width = max(map(len, lines))
    parser.epilog = "examples:\n" + "\n".join(f"  {line:{width}}   {what}" for line, what in lines.items())
    return parser


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --style, --strength, --keep-colors, --size-class, --stroke-size, --network-lines, --backend,
    --precision, --device."""
    default = " (default: %(default)s)"
    group = parser.add_argument_group("style and engine")
    group.add_argument(
        "--style",
        default="sketch",
        metavar="S",
        help="name, image, folder, or mix: sketch:0.6,ink:0.4" + default,
    )
    group.add_argument(
        "--strength", type=float, default=1.0, metavar="X", help="0: the source, 1: the style, up to 2" + default
    )
    group.add_argument("--keep-colors", action="store_true", help="keep the colors of the source")
    group.add_argument(
        "--size-class",
        choices=SIZE_CLASS_WORDS,
        default="auto",
        help="size of the network: fast takes less than half the time and looks nearly the same; auto is default, and "
        "live fast if this machine would drop frames" + default,
    )
    group.add_argument(
        "--stroke-size",
        type=_stroke_size,
        default="auto",
        metavar="X",
        help="scale of the strokes, 0.5 to 8; auto depends on the frame size" + default,
    )
    group.add_argument(
        "--network-lines",
        type=_network_lines,
        default="auto",
        metavar="N",
        help="most lines that the network of a painting works on; what it decides is enlarged, strokes and detail stay "
        "as fine as the frame: auto (720 in frames of more than 900), full, or 240 to 4320" + default,
    )
    group.add_argument("--backend", choices=BACKEND_WORDS, default="auto", help="inference engine" + default)
    group.add_argument("--precision", choices=PRECISION_WORDS, default="auto", help="of the network" + default)
    group.add_argument(
        "--device", metavar="D", help="device name of the backend, e.g. CPU, cuda:1; for files also cuda:0,cuda:1"
    )


def add_follow_option(parser: argparse.ArgumentParser, gives_way: str = "") -> None:
    """Add --follow.

    Args:
        gives_way: When flow is left out.
    """
    parser.add_argument(
        "--follow",
        choices=FOLLOW_WORDS,
        default="auto",
        help="what strokes stick to: flow follows everything that moves"
        f"{gives_way and f' ({gives_way})'}, camera only its pans, off nothing; auto is flow "
        "(default: %(default)s)",
    )


def add_automation_option(parser: argparse.ArgumentParser) -> None:
    """Add --automation."""
    parser.add_argument(
        "--automation",
        type=Path,
        metavar="FILE",
        help="keyframes as CSV or JSON: time, strength, color_strength, style; linear between, styles cross-fade",
    )


def add_mask_options(parser: argparse.ArgumentParser) -> None:
    """Add --mask, --mask-feather, --keep-face."""
    group = parser.add_argument_group("mask")
    group.add_argument(
        "--mask",
        metavar="M",
        help="person or background, or a gray image or video that is scaled to the frame: black keeps the source, "
        "white is the style",
    )
    group.add_argument(
        "--mask-feather",
        type=int,
        metavar="PX",
        help="width of the soft edge, inside the mask; 0: none (default of files: a 180th of the short side)",
    )
    add_keep_face_option(group)


def add_keep_face_option(place: argparse._ActionsContainer) -> None:
    """Add --keep-face."""
    place.add_argument("--keep-face", action="store_true", help="weaken the style on faces")


def mask_settings(args: argparse.Namespace) -> MaskSettings:
    """Return the settings that the mask options ask for."""
    from rtstyle.mask import MaskSettings

    return MaskSettings(source=args.mask, feather=args.mask_feather, keep_face=args.keep_face)


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs, --cluster, --slots, --shard."""
    default = " (default: %(default)s)"
    group = parser.add_argument_group("several processes or machines")
    group.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="render with N processes on this machine" + default
    )
    group.add_argument(
        "--cluster",
        metavar="A",
        help="render on the nodes of a Ray cluster: auto, or HOST:PORT of its head; all of them see IN under one path",
    )
    group.add_argument(
        "--slots", type=int, default=1, metavar="N", help="with --cluster: workers on each node" + default
    )
    group.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="of many files, stylize the I-th of N parts, as jobs of Slurm or Kubernetes do",
    )


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"a shard is I/N with I from 1 to N, as in 3/16; got {text!r}")
    return int(match[1]), int(match[2])


def _stroke_size(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a stroke size is auto or a number from 0.5 to 8, got {text!r}") from None


def _network_lines(text: str) -> int | str:
    try:
        return text if text in ("auto", "full") else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"network lines are auto, full or 240 to 4320, got {text!r}") from None


def engine_settings(args: argparse.Namespace) -> EngineSettings:
    """Return the settings that the engine options ask for."""
    from rtstyle.backends import EngineSettings

    return EngineSettings(
        backend=args.backend,
        precision=args.precision,
        device=args.device,
        size_class=args.size_class,
        stroke_size=args.stroke_size,
        network_lines=args.network_lines,
    )


def add_playlist_option(parser: argparse.ArgumentParser) -> None:
    """Add --allow-playlist."""
    parser.add_argument(
        "--allow-playlist",
        action="store_true",
        help="let a playlist (HLS, DASH, concat, SDP) open files and hosts other than its own",
    )


def add_message_options(parser: argparse.ArgumentParser) -> None:
    """Add --json, --quiet, -v."""
    group = parser.add_argument_group("messages")
    group.add_argument("--json", action="store_true", help="print one JSON object on stdout, also on failure")
    group.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    group.add_argument("-v", "--verbose", action="store_true", help="log details on stderr")


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``encoder_settings`` reads, and -y."""
    group = parser.add_argument_group("encoder")
    group.add_argument("--codec", metavar="C", help="h264, hevc, av1, vp9, prores, ffv1... (default: by the extension)")
    group.add_argument("--crf", type=int, metavar="N", help="constant quality, 0 is best (default: 18 for h264)")
    group.add_argument("--preset", metavar="P", help="encoder speed; auto measures (default: veryfast for h264)")
    group.add_argument("--bitrate", metavar="B", help="bits per second instead of --crf, e.g. 800k or 5M")
    group.add_argument("--pix-fmt", metavar="F", help="pixel format, e.g. yuv444p or yuv420p10le")
    group.add_argument("-y", "--overwrite", action="store_true", help="replace an existing output")


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
    from rtstyle.settings import read_seconds

    try:
        return read_seconds(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"a moment is seconds or H:MM:SS.mmm, as in 90.5 or 1:30.5; got {text!r}")
