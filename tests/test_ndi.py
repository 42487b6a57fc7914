"""NDI, from our source to a receiver of NDI's own library, over loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from rtstyle import LiveSettings, Outputs, Size, stylize_live
from rtstyle.errors import SettingError
from rtstyle.live.sinks.ndi import NdiSource

ROOT = Path(__file__).parents[1]

SESSION = """
import sys, time
from fractions import Fraction
import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.video_frame import VideoFrameSync
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from rtstyle import Color, Frame, Planes, Size
from rtstyle.live.sinks.ndi import NdiSource

size, color = Size(64, 48), Color("bt709", full_range=False)
luma, chroma = np.full((48, 64), 63, np.uint8), np.full((24, 32), 240, np.uint8)
frame = Frame(Planes(luma, np.full((24, 32), 102, np.uint8), chroma), 0, Fraction(1, 30), color)
source, finder = NdiSource("test", size=size, rate=Fraction(30)), Finder()
finder.open()
end, video, receiver = time.monotonic() + 20, VideoFrameSync(), None
while time.monotonic() < end:
    source.write(frame)
    time.sleep(1 / 30)
    names = [name for name in finder.get_source_names() if "(test)" in name]
    if names and receiver is None:
        receiver = Receiver(color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest)
        receiver.frame_sync.set_video_frame(video)
        receiver.set_source(finder.get_source(names[0]))
    if receiver and receiver.is_connected():
        receiver.frame_sync.capture_video()
        samples = np.asarray(video.get_array())
        if len(samples):
            print(video.get_resolution(), *samples.reshape(48, 64, 4)[24, 32, :3])
            break
source.close()
finder.close()
"""


def test_an_ndi_source_is_received_in_its_size_and_color(tmp_path, monkeypatch):
    pytest.importorskip("cyndilib", reason="NDI needs cyndilib: pip install 'rtstyle[ndi]'")
    # Without mDNS on the machine, NDI finds sources at addresses that it is given.
    config = {"ndi": {"networks": {"ips": "127.0.0.1"}}}
    (tmp_path / "ndi-config.v1.json").write_text(json.dumps(config))
    monkeypatch.setenv("NDI_CONFIG_DIR", str(tmp_path))
    command = [sys.executable, "-c", SESSION]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    words = done.stdout.replace(",", "").replace("(", "").replace(")", "").split()
    assert words[:2] == ["64", "48"], done.stderr[-500:]
    red, green, blue = map(int, words[2:])
    assert red > 240
    assert green < 15
    assert blue < 15


def test_without_its_package_one_line_says_how_to_get_it():
    try:
        import cyndilib  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("cyndilib is installed")
    with pytest.raises(SettingError, match=r"pip install 'rtstyle\[ndi\]'"):
        NdiSource("x", size=Size(64, 48), rate=Fraction(30))
    with pytest.raises(SettingError, match=r"pip install 'rtstyle\[ndi\]'"):
        stylize_live("http://127.0.0.1:9/x", live=LiveSettings(frames=3, preview="none"), outputs=Outputs(ndi=""))
