"""What Linux says of cameras: answers that a kernel gave, played back; its own devices where there are some."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from rtstyle.camera import v4l2
from rtstyle.camera.devices import Camera
from rtstyle.camera.listing import Devices, describe_devices
from rtstyle.frame import Size

RECORD = json.loads((Path(__file__).parent / "v4l2_vivid.json").read_text())
"""See its own note."""


def padded(text: str, number: int) -> bytes:
    size = number >> 16 & 0x3FFF
    return bytes.fromhex(text.ljust(2 * size, "0"))


def vivid(number: int, structure: bytes) -> bytes | None:
    """The kernel's answer to the same question."""
    answer = RECORD["answers"].get(f"{number:x} {structure.hex()}".rstrip("0"))
    return answer and padded(answer, number)


def test_formats_sizes_and_rates_are_read_as_the_kernel_tells_them():
    able, name = v4l2.capabilities(vivid)
    assert (able & 1, name) == (1, "vivid")

    modes = list(v4l2.modes(vivid))
    assert {mode.format for mode in modes} == {"YUYV"}
    assert [str(mode.size) for mode in modes] == [
        "320x180", "640x360", "640x480", "1280x720", "1920x1080", "3840x2160"
    ]  # fmt: skip
    assert modes[0].fps[:3] == (60, 50, 40)
    assert modes[3].fps == (Fraction(25, 2), 10, 5, 4, 2, 1)
    assert all(mode.largest is None for mode in modes)


def test_a_loopback_that_nobody_writes_to_is_an_output_and_no_camera():
    able, name = v4l2.capabilities(lambda number, _: padded(RECORD["loopback"], number))
    assert (able & 3, name) == (2, "rtstyle")


def stepwise(kind: int) -> Callable[[int, bytes], bytes | None]:
    """A driver that gives every size in a range; no device of a test machine does, so this is by the documentation."""
    grey = int.from_bytes(b"GREY", "little")

    def ask(number: int, structure: bytes) -> bytes | None:
        if structure[:4] != bytes(4):
            return None
        if number == v4l2.ENUM_FMT:
            return struct.pack("III32sI16x", 0, 1, 0, b"8-bit Greyscale", grey)
        if number == v4l2.ENUM_FRAMESIZES:
            return struct.pack("III6I8x", 0, grey, kind, 48, 8192, 1, 32, 8191, 1)
        return struct.pack("IIIII6I8x", 0, grey, 48, 32, kind, 1, 1000, 1000, 1, 1, 1)

    return ask


@pytest.mark.parametrize("kind", [2, 3])
def test_a_range_of_sizes_and_rates_has_two_ends(kind):
    (mode,) = v4l2.modes(stepwise(kind))
    assert (mode.format, mode.size, mode.largest) == ("GREY", Size(48, 32), Size(8192, 8191))
    assert mode.fps == (1000, Fraction(1, 1000))


def test_modes_are_one_line_for_each_format():
    camera = Camera("0", "/dev/video0", "vivid", tuple(v4l2.modes(vivid))[:2])
    locked = Camera("2", "/dev/video2", "", problem="no permission: add yourself to the group 'video'")
    lines = describe_devices(Devices([camera, locked], [], [], [v4l2.Node("/dev/video10", "OBS")]))

    assert lines[1] == "  0: /dev/video0 (vivid)"
    assert lines[2].startswith("     YUYV  320x180 @ 60/50/40/30/25/15/12.5/10/5/4/2/1, 640x360 @ 40/")
    assert lines[3] == "  2: /dev/video2: no permission: add yourself to the group 'video'"
    assert lines[-2:] == ["virtual cameras", "  /dev/video10 (OBS)"]
    json.dumps(Devices([camera], ["screen:"], [], []).as_json())
