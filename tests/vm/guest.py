"""What v4l2.sh runs in its virtual machine: rtstyle with a real V4L2 camera, virtual camera and ALSA microphone.

Everything is judged by another program, FFmpeg's, or by what the kernel says; lines that begin with RESULT tell.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

CAMERA, LOOPBACK = "/dev/video0", "/dev/video10"
SIZE = (320, 180)
FOLDER = Path("/run")
FFMPEG = ["ffmpeg", "-nostdin", "-v", "error"]
DRIVER = Path("/sys/bus/platform/drivers/vivid")
MODE = "--size 320x180 --fps 5 --preview none --precision f32 --strength 0 --timeout 20".split()  # noqa: SIM905
"""Strength 0 leaves the frame as it is, so that it can be compared; the network runs all the same."""


def result(good: bool, line: str) -> None:
    print(f"RESULT {'pass' if good else 'fail'}: {line}", flush=True)


def rtstyle(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", "-m", "rtstyle", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], seconds: float = 400) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "\n(killed)"
    if process.returncode:
        err += f"\n(return code {process.returncode})"
    for line in err.splitlines():
        print(f"  | {line}", flush=True)
    return out, err


def picture_of(device: str, skip: int = 0) -> np.ndarray:
    """One frame of a device, as FFmpeg's own program sees it: RGB."""
    words = (
        f"-f v4l2 -video_size 320x180 -i {device} -vf select=gte(n\\,{skip}) -frames:v 1 -f rawvideo -pix_fmt rgb24 -"
    )
    shot = subprocess.run([*FFMPEG, *words.split()], capture_output=True, timeout=200)
    if len(shot.stdout) != 3 * SIZE[0] * SIZE[1]:
        raise RuntimeError(f"ffmpeg got no frame of {device}: {shot.stderr.decode()[-300:]}")
    return np.frombuffer(shot.stdout, np.uint8).reshape(SIZE[1], SIZE[0], 3).astype(int)


def patiently(what: Callable[[], np.ndarray], seconds: float = 300) -> np.ndarray:
    end = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (RuntimeError, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                raise
            time.sleep(2)


def virtual_camera() -> None:
    """vivid -> rtstyle -> v4l2loopback -> ffmpeg: the same frame, and a recording beside it."""
    expected = picture_of(CAMERA, 3)
    session = rtstyle(
        "webcam", CAMERA, *MODE, "--seconds", "80", "--virtual-camera", "--record", str(FOLDER / "r.mkv"), "--json"
    )
    seen = patiently(lambda: picture_of(LOOPBACK, 3))
    out, err = ended(session)
    for name, picture in (("camera", expected), (LOOPBACK, seen)):
        bars = picture[150:170].reshape(20, 8, 40, 3)[:, :, 10:30].mean((0, 2)).round().astype(int)
        print(f"  eight bars of {name}: {' '.join(','.join(map(str, bar)) for bar in bars)}", flush=True)
    difference = np.abs(seen - expected)[40:]  # below the lines of vivid's text that tell the time
    result(
        difference.mean() < 4,
        f"ffmpeg reads {LOOPBACK}: mean difference from the camera {difference.mean():.2f} levels, "
        f"the frame's own spread {expected[40:].std():.0f}",
    )
    result(f"virtual camera {LOOPBACK}" in err, "the loopback device was found without being named")
    report = json.loads(out) if out.strip() else {}
    result(report.get("shown", 0) > 0, f"report: {json.dumps(report)[:600]}")
    words = "-v error -count_packets -show_entries stream=codec_name,width,height,nb_read_packets -of csv=p=0"
    done = subprocess.run(["ffprobe", *words.split(), str(FOLDER / "r.mkv")], capture_output=True, text=True)
    probed = done.stdout.strip()
    result(probed.startswith("h264,320,180"), f"the recording beside it, by ffprobe: {probed}")


def unplugged() -> None:
    """The camera is taken from the driver while rtstyle runs, and given back."""
    session = rtstyle("webcam", CAMERA, *MODE, "--record", str(FOLDER / "u.mkv"), "--json")
    lines: list[str] = []
    assert session.stderr
    reader = threading.Thread(target=lambda: lines.extend(session.stderr or ()))
    reader.start()

    def heard(words: str, seconds: float = 200) -> bool:
        end = time.monotonic() + seconds
        while reader.is_alive() and time.monotonic() < end and not any(words in line for line in lines):
            time.sleep(0.2)
        return any(words in line for line in lines)

    running = heard("openvino")
    time.sleep(15)
    device = next(path.name for path in DRIVER.glob("vivid.*"))
    (DRIVER / "unbind").write_text(device)
    node_gone, told_gone = not Path(CAMERA).exists(), heard("is gone")
    time.sleep(20)
    (DRIVER / "bind").write_text(device)
    told_back = heard("is back")
    nodes = sorted(path.name for path in Path("/dev").glob("video*"))
    print(f"  after unbind: {CAMERA} {'gone' if node_gone else 'still there'}; after bind: {nodes}", flush=True)
    time.sleep(15)
    session.send_signal(signal.SIGINT)
    assert session.stdout
    out = session.stdout.read()
    session.wait(60)
    reader.join()
    print("".join(f"  | {line}" for line in lines), end="", flush=True)
    report = json.loads(out) if out.strip() else {}
    result(running and node_gone and told_gone, "that the camera is gone was reported")
    result(told_back, "and that it is back")
    result(report.get("shown", 0) > 0, f"report: {json.dumps(report)[:600]}")


def microphone() -> None:
    """ffmpeg plays 1000 Hz into snd-aloop; what rtstyle hears goes into a recording, with a grey frame.

    Without a network beside it: where every instruction is emulated, the reader of the device comes too late.
    """
    from rtstyle.frame import Color, Frame, Planes, Size, VideoFormat
    from rtstyle.live.fanout import Fanout
    from rtstyle.live.microphone import MicrophoneCapture
    from rtstyle.live.sinks.recording import Recording
    from rtstyle.live.sinks.sink import CLOCK
    from rtstyle.video import VideoWriter

    words = "-re -f lavfi -i sine=frequency=1000:sample_rate=48000 -ac 2 -c:a pcm_s16le -f alsa hw:0,0,0"
    tone = subprocess.Popen([*FFMPEG, *words.split()], stderr=subprocess.PIPE, text=True)
    path, size, color = FOLDER / "m.mp4", Size(64, 48), Color("bt601")
    grey = Planes(np.full((48, 64), 120, np.uint8), *np.full((2, 24, 32), 128, np.uint8))
    try:
        time.sleep(5)
        with Fanout(print) as outlets:
            writer = VideoWriter(path, VideoFormat(size, color, CLOCK, Fraction(5)), live_audio=True)
            outlets.add("recording", Recording(writer, print), "all")
            with MicrophoneCapture("plughw:0,1", outlets.write_audio, print, timeout=20):
                for _ in range(100):
                    outlets.write(Frame(grey, 0, CLOCK, color), time.perf_counter())
                    time.sleep(0.2)
        control, words = FOLDER / "control.wav", "-f alsa -sample_rate 48000 -channels 2 -i plughw:0,1 -t 15"
        subprocess.run([*FFMPEG, *words.split(), str(control)], timeout=120)
    finally:
        tone.terminate()
        said = tone.communicate()[1]
    if said.strip():
        print(f"  ffmpeg: {said.strip()[-300:]}", flush=True)
    ours, theirs = tenths_of(path), tenths_of(control)
    result(len(ours) > 150, f"{len(ours) / 10:.1f} s of audio were recorded from ALSA plughw:0,1")
    loud, control_loud = ours.std(1) > 100, theirs.std(1) > 100
    result(
        loud.mean() > 0.7 * control_loud.mean() > 0,
        f"{100 * loud.mean():.0f} % of it is not silent; where ffmpeg records: {100 * control_loud.mean():.0f} %",
    )
    spectrum = (np.abs(np.fft.rfft(ours[loud] * np.hanning(4800), axis=1)) ** 2).mean(0)
    share = spectrum[95:106].sum() / spectrum.sum()
    result(
        share > 0.9, f"{100 * share:.1f} % of its power is within 50 Hz of 1000 Hz, at {10 * spectrum.argmax()} Hz most"
    )


def tenths_of(path: Path) -> np.ndarray:
    """Audio as ffmpeg decodes it: a row of 4800 samples for each tenth of a second."""
    words = f"-i {path} -map 0:a -ac 1 -ar 48000 -f s16le -"
    sound = subprocess.run([*FFMPEG, *words.split()], capture_output=True).stdout
    samples = np.frombuffer(sound, np.int16).astype(float)
    return samples[: len(samples) // 4800 * 4800].reshape(-1, 4800)


def pyvirtualcam() -> None:
    """What Windows and macOS use, with the driver that it has for Linux; ffmpeg reads."""
    from rtstyle.frame import Color, Frame, Size, planes_from_rgb
    from rtstyle.live.sinks.virtual_camera import PyVirtualCam

    wanted = np.zeros((180, 320, 3), np.uint8)
    wanted[:, :160], wanted[:, 160:] = (200, 50, 50), (40, 90, 210)
    color = Color("bt601")
    frame = Frame(planes_from_rgb(wanted, color), 0, Fraction(1, 5), color)
    camera = PyVirtualCam("/dev/video11", size=Size(*SIZE), color=color, rate=Fraction(5))
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.2):
            camera.write(frame)

    writer = threading.Thread(target=show)
    writer.start()
    try:
        seen = picture_of("/dev/video11", 2)
    finally:
        over.set()
        writer.join()
        camera.close()
    sides = [tuple(seen[20:160, x : x + 120].mean((0, 1)).round().astype(int).tolist()) for x in (20, 180)]
    good = np.abs(np.subtract(sides, ((200, 50, 50), (40, 90, 210)))).max() < 6
    result(bool(good), f"ffmpeg sees {sides[0]} and {sides[1]} for (200, 50, 50) and (40, 90, 210)")


def doctor() -> None:
    """What rtstyle says of these devices."""
    out, _ = ended(rtstyle("devices"))
    print(re.sub(r"^", "  ", out, flags=re.M), flush=True)
    result("rtstyle" in out and "vivid" in out, "rtstyle devices names both")


PARTS: dict[str, Callable[[], None]] = {
    "doctor": doctor,
    "virtual_camera": virtual_camera,
    "unplugged": unplugged,
    "microphone": microphone,
    "pyvirtualcam": pyvirtualcam,
}


def main() -> None:
    print(f"kernel {os.uname().release}, {os.cpu_count()} emulated cores", flush=True)
    for name in sys.argv[1:] or PARTS:
        began = time.monotonic()
        print(f"--- {name}: {(PARTS[name].__doc__ or '').partition(chr(10))[0]}", flush=True)
        try:
            PARTS[name]()
        except Exception as error:
            result(False, f"{name}: {type(error).__name__}: {error}")
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print("RESULT end", flush=True)


if __name__ == "__main__":
    main()
