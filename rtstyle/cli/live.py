"""The live commands: webcam, devices."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtstyle.cli.options import (
    DONE,
    INTERRUPTED,
    add_command,
    add_encoder_options,
    add_engine_options,
    add_follow_option,
    add_mask_options,
    add_message_options,
    add_playlist_option,
    bits,
    encoder_settings,
    engine_settings,
    mask_settings,
)
from rtstyle.cli.talk import finish, say, write
from rtstyle.cli.web import add_address_options, address_of
from rtstyle.errors import SettingError

if TYPE_CHECKING:
    from rtstyle.live import LiveReport
    from rtstyle.live.settings import ControlSettings


def add_webcam(commands: Any) -> None:
    """Add the command ``webcam``."""
    parser = add_command(
        commands,
        "webcam",
        "stylize a camera, live",
        "Stylize a camera, live. In the window: ? lists the keys, n/p or arrows change the style, +/- the strength, "
        "v shows the source next to it, s saves a snapshot, r records, f fills the screen, q quits.",
        "[options] [SOURCE]",
        {
            "": "the first camera, in a window",
            "1 --size 1280x720 --fps 30 --mirror": "another camera, in a mode of it",
            "--style cartoon --record show.mp4 --mic": "record, with audio",
            "--virtual-camera --preview none": "be a camera for video calls",
            "--output rtmp://server/live/key": "send a stream",
            "rtsp://camera/stream --preview browser": "an IP camera, shown on a page",
            "screen: --target-fps 25": "the desktop, at least 25 FPS",
        },
    )
    default = " (default: %(default)s)"
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default="0",
        help="camera number, device or name; screen: or screen:0+X,Y; URL; named pipe; "
        "video, image or folder of images, played at its own rate" + default,
    )
    _add_output_options(parser)
    _add_capture_options(parser)
    parser.add_argument("--mirror", action="store_true", help="flip left and right")
    parser.add_argument(
        "--target-fps",
        type=float,
        metavar="N",
        help="switch to the fast network, then to a smaller size, if this machine is too slow for N frames per second",
    )
    parser.add_argument(
        "--hold",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="reduce noise in static areas before stylizing, so that it does not flicker (default: yes)",
    )
    parser.add_argument(
        "--deflicker",
        action="store_true",
        help="even out brightness that swings with lamps or the camera's exposure, by 30 %% at most",
    )
    add_follow_option(parser, "while no frames are dropped")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds")
    _add_control_options(parser)
    add_address_options(parser)
    add_encoder_options(parser)
    add_engine_options(parser)
    add_mask_options(parser)
    add_message_options(parser)
    parser.set_defaults(run=_run_webcam)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    default = " (default: %(default)s)"
    parser.add_argument(
        "--preview",
        choices=("auto", "window", "browser", "none"),
        default="auto",
        help="auto: a window if there is a display; browser: a web page, and /stream.mjpg for OBS" + default,
    )
    parser.add_argument(
        "--clean-window", action="store_true", help="open a second window without figures, for a projector; w fills it"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="record the stylized video, .mp4 or .mkv")
    parser.add_argument(
        "--virtual-camera",
        nargs="?",
        const="",
        metavar="DEV",
        help="act as a camera for other programs: v4l2loopback on Linux (default: the first found), else OBS's",
    )
    parser.add_argument(
        "--on-demand", action="store_true", help="rest while no program has the virtual camera open (Linux)"
    )
    parser.add_argument("--ndi", nargs="?", const="", metavar="NAME", help="be an NDI source (default name: rtstyle)")
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="URL",
        help="stream to rtmp(s)://, rtsp://, udp://, tcp:// or HLS (NAME.m3u8, http://...m3u8); may be repeated",
    )
    parser.add_argument("--output-bitrate", metavar="B", help="bits per second of each --output, e.g. 800k or 5M")
    parser.add_argument("--mic", nargs="?", const="", metavar="DEV", help="add a microphone to --record and --output")
    parser.add_argument(
        "--no-audio", action="store_true", help="leave the audio of a file or URL out of --record and --output"
    )
    add_playlist_option(parser)


def _add_capture_options(parser: argparse.ArgumentParser) -> None:
    default = " (default: %(default)s)"
    parser.add_argument("--size", metavar="WxH", help="camera mode to request, or region of the screen")
    parser.add_argument("--fps", metavar="N", help="frame rate to request, e.g. 30 or 30000/1001")
    parser.add_argument(
        "--camera-control",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set exposure, gain and the like of a camera (Linux; devices lists them); may be repeated",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="S",
        help="seconds without a frame after which the source is stalled" + default,
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="S",
        help="seconds to wait for a camera that vanished or stalled, 0: none (default: forever; with --frames: 10)",
    )
    parser.add_argument(
        "--loop",
        action=argparse.BooleanOptionalAction,
        help="repeat a file at its end (default: images yes, a video no)",
    )


def _add_control_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("control")
    group.add_argument("--page", action="store_true", help="serve the page with its HTTP control beside the window")
    group.add_argument(
        "--osc", metavar="[HOST:]PORT", help="listen for OSC, as /rtstyle/strength 0.5 (host default: 127.0.0.1)"
    )
    group.add_argument("--osc-reply", type=int, metavar="PORT", help="send answers to OSC queries to this port")
    group.add_argument(
        "--midi", nargs="?", const="", metavar="NAME", help="listen to a MIDI input (default: the first); l learns"
    )
    group.add_argument("--midi-map", type=Path, metavar="FILE", help="learned MIDI bindings (default: the user's own)")
    group.add_argument("--presets", type=Path, metavar="FILE", help="TOML file of named looks and own keys")
    group.add_argument(
        "--modulate",
        action="append",
        default=[],
        metavar="M",
        help="change by itself, as strength:sine:0.5hz:0.2..1, blend:beat, style:next:8beats; may be repeated",
    )
    group.add_argument("--beat-audio", action="store_true", help="take the beat from --mic, or the source's own audio")
    group.add_argument(
        "--allow-strobe",
        action="store_true",
        help="allow more than three flashes per second, which can hurt people with photosensitive epilepsy",
    )
    group.add_argument("--remember", action="store_true", help="start with what was used last, and remember it")
    group.add_argument(
        "--delay", type=float, default=0.0, metavar="MS", help="let frames leave so late after capture, up to 2000"
    )


def _control_settings(args: argparse.Namespace) -> ControlSettings:
    from rtstyle.live.control.osc import parse_osc_address
    from rtstyle.live.settings import ControlSettings

    return ControlSettings(
        page=args.page,
        osc=parse_osc_address(args.osc) if args.osc else None,
        osc_reply_port=args.osc_reply,
        midi=args.midi,
        midi_map=args.midi_map,
        presets=args.presets,
        modulate=tuple(args.modulate),
        beat_from_audio=args.beat_audio,
        allow_strobe=args.allow_strobe,
        remember=args.remember,
        delay_ms=args.delay,
    )


def add_devices(commands: Any) -> None:
    """Add the command ``devices``."""
    parser = add_command(
        commands,
        "devices",
        "list cameras, screens and microphones",
        "List cameras, screens and microphones of this machine, each with the name that opens it.",
        "[options]",
        {"": "a list", "--json": "for scripts"},
    )
    add_message_options(parser)
    parser.set_defaults(run=_run_devices)


def _run_devices(args: argparse.Namespace) -> int:
    from rtstyle.camera.listing import describe_devices, list_devices

    devices = list_devices()
    if args.json:
        print(json.dumps(devices.as_json()))
    else:
        for line in describe_devices(devices):
            write(line)
    return DONE


def _run_webcam(args: argparse.Namespace) -> int:
    from rtstyle.live import LiveInterrupted

    code, said = DONE, set[str]()

    def say_once(line: str) -> None:
        said.add(line)
        say(line)

    try:
        report = _go_live(args, None if args.quiet else say_once)
    except LiveInterrupted as interrupt:  # how a session without a window is ended
        report, code = interrupt.report, INTERRUPTED
    latency = "".join(f" {name} {value:.0f}" for name, value in report.latency_ms.items()) or " of nothing"
    finish(
        args,
        asdict(report),
        [warning for warning in report.warnings if warning not in said],
        f"{report.shown} of {report.captured} frames of {report.size} shown in {report.seconds:.1f} s, "
        f"{report.fps:.1f} FPS, {report.dropped} dropped, latency{latency} ms "
        f"({report.backend} {report.precision} on {report.device}; style {report.style})",
    )
    return code


def _go_live(args: argparse.Namespace, say: Callable[[str], None] | None) -> LiveReport:
    from rtstyle.backends import Controls
    from rtstyle.camera import CaptureSettings
    from rtstyle.camera.controls import parse_control
    from rtstyle.frame import Size
    from rtstyle.live import LiveSettings, Outputs, stylize_live

    try:
        fps = Fraction(args.fps) if args.fps else None
        if fps:
            float(fps)
    except (ValueError, ArithmeticError):
        raise SettingError(f"--fps is a number such as 30 or 30000/1001, got {args.fps!r}") from None
    return stylize_live(
        args.source,
        style=args.style,
        controls=Controls.of(args.strength, keep_colors=args.keep_colors),
        engine=engine_settings(args),
        capture=CaptureSettings(
            size=Size.parse(args.size) if args.size else None,
            fps=fps,
            timeout=args.timeout,
            wait=args.wait,
            loop=args.loop,
            playlists=args.allow_playlist,
            controls=tuple(map(parse_control, args.camera_control)),
        ),
        outputs=Outputs(
            virtual_camera=args.virtual_camera,
            on_demand=args.on_demand,
            ndi=args.ndi,
            urls=tuple(args.output),
            bitrate=bits(args.output_bitrate, "--output-bitrate"),
            microphone=args.mic,
            audio=not args.no_audio,
            record=args.record,
            encoder=encoder_settings(args),
            overwrite=args.overwrite,
        ),
        live=LiveSettings(
            preview=args.preview,
            clean_window=args.clean_window,
            address=address_of(args),
            mirror=args.mirror,
            denoise=args.hold,
            deflicker=args.deflicker,
            control=_control_settings(args),
            mask=mask_settings(args),
            follow=args.follow,
            target_fps=args.target_fps,
            frames=args.frames,
            seconds=args.seconds,
        ),
        say=say,
    )
