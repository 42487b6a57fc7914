"""What Linux says of cameras: answers that a kernel gave, played back; its own devices where there are some."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from rtstyle.camera import CaptureSettings, controls, open_source, v4l2
from rtstyle.camera.devices import Camera
from rtstyle.camera.listing import Devices, describe_devices
from rtstyle.errors import SettingError
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


def test_a_loopback_that_no_one_writes_to_is_an_output_and_no_camera():
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


# -- controls


class Driver:
    """A driver with the controls of a webcam, by the documentation; no camera is at hand."""

    def __init__(self) -> None:
        self.menu = (b"Disabled", b"50 Hz", b"60 Hz")
        self.values = {10: 128, 20: 1, 30: 250, 40: 7}
        self.known = [  # id, type, name, minimum, maximum, default, flags
            (10, 1, b"Brightness", 0, 255, 128, 0),
            (20, 3, b"Power Line Frequency", 0, 2, 1, 0),
            (30, 1, b"Exposure Time, Absolute", 3, 2047, 250, 0x10),
            (35, 6, b"Camera Controls", 0, 0, 0, 0),
            (40, 2, b"Broken", 0, 1, 0, 1),
        ]

    def ask(self, number: int, structure: bytes) -> bytes | None:
        wanted = struct.unpack("I", structure[:4])[0]
        if number == controls.QUERYCTRL:
            for id, kind, name, least, largest, default, flags in self.known:
                if id > wanted & 0x7FFFFFFF:
                    return struct.pack("II32siiiiI8x", id, kind, name, least, largest, 1, default, flags)
            return None
        if number == controls.QUERYMENU:
            index = struct.unpack("I", structure[4:8])[0]
            return struct.pack("=II32sI", wanted, index, self.menu[index], 0) if wanted == 20 else None
        if number == controls.G_CTRL and wanted in self.values:
            return struct.pack("Ii", wanted, self.values[wanted])
        if number == controls.S_CTRL and wanted in self.values and wanted != 30:
            self.values[wanted] = struct.unpack("Ii", structure)[1]
            return structure
        return None


def test_controls_of_a_camera_are_listed_and_set_by_name():
    assert [controls.QUERYCTRL, controls.QUERYMENU] == [0xC0445624, 0xC02C5625], "as in linux/videodev2.h"
    assert [controls.G_CTRL, controls.S_CTRL] == [0xC008561B, 0xC008561C]
    driver = Driver()
    assert [str(control) for control in controls.controls(driver.ask)] == [
        "brightness 0 to 255 (128)",
        "power_line_frequency Disabled|50 Hz|60 Hz (50 Hz)",
        "exposure_time_absolute 3 to 2047 (250)",
    ]
    wishes = [("brightness", "200"), ("Power Line Frequency", "60 hz")]
    controls.set_controls(driver.ask, wishes, "camera 0")
    assert (driver.values[10], driver.values[20]) == (200, 2)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (("gain", "1"), "has no control 'gain'; it has brightness, power_line_frequency, exposure_time_absolute"),
        (("brightness", "256"), "brightness is 0 to 255; got '256'"),
        (("brightness", "loud"), "brightness is 0 to 255"),
        (("power_line_frequency", "5"), "power_line_frequency is Disabled, 50 Hz, 60 Hz"),
        (("exposure_time_absolute", "100"), "camera 0 refuses exposure_time_absolute=100; an automatic"),
    ],
)
def test_a_control_that_cannot_be_set_is_one_line(wish, words):
    with pytest.raises(SettingError, match=words) as refused:
        controls.set_controls(Driver().ask, [wish], "camera 0")
    assert "\n" not in str(refused.value)


def test_controls_are_for_cameras_of_this_machine():
    assert controls.parse_control("gain=10") == ("gain", "10")
    for text in ("gain", "=1", "gain="):
        with pytest.raises(SettingError, match="NAME=VALUE"):
            controls.parse_control(text)
    with pytest.raises(SettingError, match="no camera of this machine"):
        open_source("http://127.0.0.1:9/x", CaptureSettings(controls=(("gain", "1"),)))
