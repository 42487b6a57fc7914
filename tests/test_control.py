"""A live session that is controlled from outside, and that changes by itself: OSC, MIDI, presets, modulation."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_camera import NetworkCamera
from test_session import Kept, live_session, run_and_post

from rtstyle import Address, Controls, ControlSettings, Frame, LiveSettings, Size, stylize_live
from rtstyle.actions import (
    BUTTONS,
    NUMBERS,
    READABLE,
    SWITCHES,
    Action,
    BlendSet,
    ColorStrengthSet,
    FadeSet,
    Learn,
    MaskSet,
    ModulationSet,
    PresetChosen,
    SessionState,
    SizeClassSet,
    SplitSet,
    StrengthSet,
    StyleChosen,
    SwitchSet,
    check_names,
    read_command,
    target_of,
    value_of,
)
from rtstyle.errors import ServerError, SettingError
from rtstyle.frame import Color, Planes
from rtstyle.live.control.beat import AudioMeter, BeatClock
from rtstyle.live.control.memory import recall, remember
from rtstyle.live.control.midi import MidiInput, MidiMap
from rtstyle.live.control.modulation import Modulation, Modulator, TurnLimiter
from rtstyle.live.control.osc import OscServer, parse_osc_address
from rtstyle.live.control.presets import read_show
from rtstyle.live.deflicker import LARGEST_GAIN, Deflicker
from rtstyle.live.fanout import Fanout
from rtstyle.live.look import Look, split_frame
from rtstyle.style import list_styles
from rtstyle.video.audio import RATE, AudioChunk

STATE = SessionState(
    styles=("sketch", "ink"),
    style="sketch",
    loading=None,
    strength=0.7,
    keeps_colors=False,
    crossfades=True,
    holds=True,
    mirrored=False,
    paused=False,
    recording=False,
    figures="",
    presets=("intro",),
)
LIMITED = Color("bt709", full_range=False)


def flat(level: int, size: Size = Size(64, 48)) -> Frame:
    chroma = np.full((size.chroma.height, size.chroma.width), 128, np.uint8)
    luma = np.full((size.height, size.width), level, np.uint8)
    return Frame(Planes(luma, chroma, chroma.copy()), 0, Fraction(1, 90000), LIMITED)


def wait_until(true, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- words


@pytest.mark.parametrize(
    ("word", "value", "command"),
    [
        ("strength", 0.5, StrengthSet(0.5)),
        ("strength", 2, StrengthSet(2.0)),
        ("color_strength", 0, ColorStrengthSet(0.0)),
        ("style", "ink", StyleChosen("ink")),
        ("style", 1, StyleChosen(1)),
        ("style", 1.0, StyleChosen(1)),
        ("style", "sketch:0.6,ink:0.4", StyleChosen("sketch:0.6,ink:0.4")),
        ("blend", 0.3, BlendSet(0.3)),
        ("blend", ["ink", 0.3], BlendSet(0.3, "ink")),
        ("blend", {"style": "ink", "share": 1}, BlendSet(1.0, "ink")),
        ("split", 0.25, SplitSet(0.25)),
        ("split", True, SplitSet(0.5)),
        ("split", None, SplitSet(None)),
        ("record", 1, SwitchSet(Action.RECORD, True)),
        ("record", False, SwitchSet(Action.RECORD, False)),
        ("bypass", None, Action.BYPASS),
        ("snapshot", 1.0, Action.SNAPSHOT),
        ("snapshot", None, Action.SNAPSHOT),
        ("snapshot", 0.0, None),
        ("size_class", "fast", SizeClassSet("fast")),
        ("mask", "person", MaskSet("person")),
        ("mask", None, Action.MASK),
        ("preset", "intro", PresetChosen("intro")),
        ("modulate", "strength:sine:1hz blend:beat", ModulationSet(("strength:sine:1hz", "blend:beat"))),
        ("learn", "strength", Learn("strength", None)),
        ("learn", {"preset": "intro"}, Learn("preset", "intro")),
        ("action", "keep colors", Action.KEEP_COLORS),
    ],
)
def test_a_word_and_its_value_are_one_command_wherever_they_come_from(word, value, command):
    assert read_command(word, value) == command


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("strength", 2.1), ("strength", "1"), ("strength", math.nan), ("strength", None), ("strength", [1]),
        ("blend", True), ("mask", "people"), ("mask", 1), ("no", 1),
        ("style", None), ("style", 0.5), ("style", True), ("record", "yes"), ("bypass", 2), ("size_class", "huge"),
        ("blend", ["ink"]), ("blend", {"ink": 1}), ("split", -1), ("modulate", [1]), ("learn", {"no": 1}),
        ("action", "dance"), ("", 1),
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(word, value):
    with pytest.raises(ValueError, match=r".+"):
        read_command(word, value)


def test_every_value_that_can_be_set_can_be_read():
    for word in READABLE:
        assert word == "split" or word == "preset" or word == "bpm" or value_of(STATE, word) is not None, word
    assert value_of(STATE, "strength") == 0.7
    for action in (*BUTTONS.values(), *(action for action, _ in SWITCHES.values())):
        word, value = target_of(action)
        assert value is None
        assert read_command(word, 0.5 if word in NUMBERS else 1) is not None


def test_names_are_checked_also_inside_a_mix():
    check_names(StyleChosen("sketch:0.5,ink:0.5"), STATE.styles, STATE.presets)
    for command in (
        StyleChosen("sketch:0.5,/etc:0.5"), StyleChosen(2), StyleChosen("no"), BlendSet(0.5, "../x"),
        PresetChosen("no"), PresetChosen(1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="there is no"):
            check_names(command, STATE.styles, STATE.presets)


# -- OSC, over UDP


@pytest.fixture
def osc():
    pytest.importorskip("pythonosc", reason="OSC needs python-osc: pip install 'rtstyle[osc]'")
    posted, warned = [], []
    with OscServer("127.0.0.1", 0, posted.append, lambda: STATE, warn=warned.append) as server:
        server.posted, server.warned = posted, warned
        yield server


def test_osc_sets_what_its_address_names(osc):
    from pythonosc.udp_client import SimpleUDPClient

    client = SimpleUDPClient("127.0.0.1", osc.port)
    client.send_message("/rtstyle/strength", 0.25)
    client.send_message("/rtstyle/style", "ink")
    client.send_message("/rtstyle/style", 1)
    client.send_message("/rtstyle/blend", ["ink", 0.5])
    client.send_message("/rtstyle/record", True)
    client.send_message("/rtstyle/snapshot", [])
    client.send_message("/rtstyle/snapshot", 0.0)
    client.send_message("/rtstyle/beat", 1)
    wait_until(lambda: len(osc.posted) == 7)
    assert osc.posted == [
        StrengthSet(0.25), StyleChosen("ink"), StyleChosen(1), BlendSet(0.5, "ink"), SwitchSet(Action.RECORD, True),
        Action.SNAPSHOT, Action.BEAT,
    ]  # fmt: skip
    assert osc.warned == []


def test_osc_answers_what_is_asked(osc):
    from pythonosc.osc_message import OscMessage
    from pythonosc.osc_message_builder import OscMessageBuilder

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        ask = OscMessageBuilder("/rtstyle/get")
        ask.add_arg("strength")
        line.sendto(ask.build().dgram, ("127.0.0.1", osc.port))
        answer = OscMessage(line.recv(1000))
        assert (answer.address, answer.params[0]) == ("/rtstyle/strength", pytest.approx(0.7))
        line.sendto(OscMessageBuilder("/rtstyle/get").build().dgram, ("127.0.0.1", osc.port))
        told = {}
        while len(told) < len(READABLE):
            answer = OscMessage(line.recv(1000))
            told[answer.address.removeprefix("/rtstyle/")] = answer.params[0]
    assert told["style"] == "sketch"
    assert told["hold"] is True
    assert told["split"] == ""


def test_damaged_and_unknown_osc_is_reported_once_and_stops_nothing(osc, caplog):
    from pythonosc.osc_bundle_builder import OscBundleBuilder
    from pythonosc.osc_message_builder import OscMessageBuilder
    from pythonosc.udp_client import SimpleUDPClient

    dice = np.random.default_rng(0)
    client = SimpleUDPClient("127.0.0.1", osc.port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for size in (0, 1, 4, 60, 1000):
            line.sendto(dice.bytes(size), ("127.0.0.1", osc.port))
        line.sendto(b"/rtstyle/x\0\0,{\0\0" + bytes(16), ("127.0.0.1", osc.port))
        line.sendto(b"#bundle\0" + bytes(8) + b"\0\0\0\x10#bundle\0", ("127.0.0.1", osc.port))
        bundle = OscBundleBuilder(time.time() + 3600)  # python-osc's own servers would sleep for an hour
        message = OscMessageBuilder("/rtstyle/strength")
        message.add_arg(1.5)
        bundle.add_content(message.build())
        line.sendto(bundle.build().dgram, ("127.0.0.1", osc.port))
    client.send_message("/other/strength", 1.0)
    client.send_message("/rtstyle/strength", 99.0)
    client.send_message("/rtstyle/style", "/etc/passwd")
    client.send_message("/rtstyle/strength", 0.5)
    wait_until(lambda: osc.posted == [StrengthSet(1.5), StrengthSet(0.5)])
    assert len(osc.warned) == 1
    assert "\n" not in osc.warned[0]
    assert caplog.records == [], "python-osc would log each of them"


def test_a_port_that_is_taken_and_an_address_that_is_none_are_one_line(osc):
    with pytest.raises(ServerError, match=f"port {osc.port}"):
        OscServer("127.0.0.1", osc.port, print, lambda: STATE, warn=print)
    assert parse_osc_address("9000") == ("127.0.0.1", 9000)
    assert parse_osc_address("0.0.0.0:9000") == ("0.0.0.0", 9000)
    for text in ("", "x", "9000:", "70000", "host:port"):
        with pytest.raises(SettingError, match="--osc takes"):
            parse_osc_address(text)


def test_osc_changes_the_next_frame_of_a_session():
    pytest.importorskip("pythonosc", reason="OSC needs python-osc: pip install 'rtstyle[osc]'")
    from pythonosc.udp_client import SimpleUDPClient

    with (
        NetworkCamera() as camera,
        live_session(camera.url) as (session, _),
        OscServer("127.0.0.1", 0, session.post, lambda: session.state, warn=print) as server,
    ):
        client = SimpleUDPClient("127.0.0.1", server.port)

        def sent(word: str, value: object, shown) -> tuple:
            return Action.HUD, lambda state: (client.send_message(f"/rtstyle/{word}", value), shown(state))[1]

        steps = (
            sent("strength", 0.25, lambda s: s.strength == 0.25),
            sent("color_strength", 0.5, lambda s: s.color_strength == 0.5),
            sent("split", 0.25, lambda s: s.split == 0.25),
            sent("bypass", 1, lambda s: s.bypassed),
            sent("blackout", True, lambda s: s.blacked_out),
            sent("size_class", "fast", lambda s: s.size_class == "fast"),
        )
        assert len(run_and_post(session, *steps)) == len(steps)


def test_a_window_a_page_osc_and_presets_work_at_once_and_what_was_used_is_remembered(tmp_path, monkeypatch):
    pytest.importorskip("pythonosc", reason="OSC needs python-osc: pip install 'rtstyle[osc]'")
    pytest.importorskip("aiohttp", reason="pages need aiohttp: pip install 'rtstyle[web]'")
    from pythonosc.udp_client import SimpleUDPClient

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "show.toml").write_text(SHOW)
    control = ControlSettings(page=True, osc=("127.0.0.1", 0), presets=tmp_path / "show.toml", remember=True)
    live = LiveSettings(preview="window", address=Address(port=0), control=control, seconds=60, denoise=False)
    lines: list[str] = []

    def line_with(words: str) -> str:
        return next((line for line in lines if words in line), "")

    def operate() -> None:
        wait_until(lambda: line_with("OSC on") and line_with("open http"), 30)
        page = line_with("open http").split()[1]

        def state() -> dict:
            return json.load(urllib.request.urlopen(page.replace("/?", "/state?")))

        def post(**said) -> None:
            asked = urllib.request.Request(
                page.replace("/?", "/command?"), json.dumps(said).encode(), {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(asked).close()

        try:
            SimpleUDPClient("127.0.0.1", int(line_with("OSC on").split(" port ")[1].split(":")[0])).send_message(
                "/rtstyle/color_strength", 0.5
            )
            wait_until(lambda: state()["color_strength"] == 0.5)
            post(preset="intro")
            wait_until(lambda: state()["style"] == "ink" and state()["presets"] == ["intro", "end"], 20)
            post(strength=1.25)
            wait_until(lambda: state()["strength"] == 1.25)
            seen.append(state())
        finally:
            post(quit=1)

    seen: list[dict] = []
    operator = threading.Thread(target=operate)
    with NetworkCamera() as camera:
        operator.start()
        report = stylize_live(camera.url, live=live, say=lines.append)
        operator.join()
    assert seen
    assert seen[0]["preset"] == "intro"
    assert {"window", "browser"} <= set(report.sinks)
    told = json.loads((tmp_path / "rtstyle" / "live.json").read_text())
    assert (told["style"], told["strength"]) == ("ink", 1.25)


def test_settings_that_would_do_nothing_are_refused(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    for words, settings in (
        ("needs a port to listen on", {"osc_reply_port": 9001}),
        ("needs a MIDI input", {"midi_map": Path("x.json")}),
        ("0 to 2000 ms", {"delay_ms": -1}),
        ("photosensitive", {"modulate": ("strength:sine:9hz",)}),
    ):
        with pytest.raises(SettingError, match=words):
            ControlSettings(**settings)
    with pytest.raises(SettingError, match="a clean window was asked for"):
        stylize_live("http://127.0.0.1:9/x", live=LiveSettings(preview="none", frames=3, clean_window=True))


# -- MIDI, from the bytes of a cable


class Midi:
    def __init__(self, path, state: SessionState = STATE) -> None:
        mido = pytest.importorskip("mido", reason="MIDI needs mido: pip install 'rtstyle[midi]'")
        self.parse, self.posted, self.warned, self.beats = mido.parse_all, [], [], []
        self.map = MidiMap(path)
        self.input = MidiInput(
            "", self.map, self.posted.append, lambda: state, beat=self.beats.append, warn=self.warned.append
        )

    def send(self, *data: int, at: float = 0.0) -> list:
        self.posted.clear()
        for message in self.parse(data):
            self.input.take(message, at)
        return self.posted


def test_midi_controls_do_what_they_do_by_default(tmp_path):
    midi = Midi(tmp_path / "midi.json")
    assert midi.send(0xB0, 1, 127) == [StrengthSet(2.0)]
    assert midi.send(0xB5, 1, 0) == [StrengthSet(0.0)], "on any channel"
    assert midi.send(0xB0, 3, 64) == [BlendSet(pytest.approx(64 / 127))]
    assert midi.send(0x90, 37, 100) == [StyleChosen(1)]
    assert midi.send(0x90, 37, 0, 0x80, 37, 64) == [], "a pad that is let go"
    assert midi.send(0xC0, 0) == [PresetChosen(0)]
    assert midi.send(0xB0, 99, 5, 0x90, 5, 5, 0xE0, 0, 0) == []
    assert midi.warned == []
    assert midi.send(0x90, 45, 100) == []
    assert "there is no style in place 9" in midi.warned[0]


def test_midi_learns_by_moving_a_control_and_remembers_it(tmp_path):
    midi = Midi(tmp_path / "own" / "midi.json")
    midi.input.learn(Learn("color_strength", None))
    assert midi.send(0xB0, 20, 50) == []
    assert midi.warned == ["MIDI control 20 is bound to color_strength"]
    assert midi.send(0xB0, 20, 127) == [ColorStrengthSet(2.0)]
    for word, value in (("bypass", None), ("preset", "intro"), ("snapshot", None)):
        midi.input.learn(Learn(word, value))
        midi.send(0x90, 60 + len(word), 100)
    again = Midi(tmp_path / "own" / "midi.json")
    assert again.send(0xB0, 20, 127) == [ColorStrengthSet(2.0)]
    assert again.send(0x90, 66, 1, 0x90, 66, 0) == [Action.BYPASS] or again.posted == [PresetChosen("intro")]
    assert again.send(0x90, 68, 90, 0x80, 68, 0) == [Action.SNAPSHOT]
    assert again.send(0xB0, 1, 0) == [StrengthSet(0.0)], "the rest is as before"


def test_midi_clock_is_a_tempo(tmp_path):
    midi, clock = Midi(tmp_path / "midi.json"), BeatClock()
    for tick in range(24 * 4 + 1):
        midi.send(0xF8, at=tick * 0.5 / 24)
    assert midi.beats == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])
    for at in midi.beats:
        clock.beat(at)
    assert clock.bpm == 120


CABLE = """
import sys, time
import mido
from pathlib import Path
from test_control import STATE
from rtstyle.live.control.midi import MidiInput, MidiMap

out = mido.open_output("pads", virtual=True)
posted, beats = [], []
with MidiInput("pads", MidiMap(Path(sys.argv[1])), posted.append, lambda: STATE, beat=beats.append, warn=print) as midi:
    out.send(mido.Message("control_change", control=1, value=127))
    out.send(mido.Message("note_on", note=37, velocity=90))
    out.send(mido.Message("program_change", program=0))
    for _ in range(49):
        out.send(mido.Message("clock"))
        time.sleep(0.01)
    time.sleep(0.5)
print(posted, len(beats))
try:
    MidiInput("nothing", None, None, None, beat=None, warn=None).__enter__()
except ValueError as error:
    print(error)
"""


@pytest.fixture
def jack(monkeypatch, tmp_path):
    """A JACK server without a audio card, which carries MIDI from one client to another."""
    pytest.importorskip("rtmidi", reason="MIDI needs python-rtmidi: pip install 'rtstyle[midi]'")
    if shutil.which("jackd") is None:
        pytest.skip("jackd is not installed")
    name = f"rtstyle-{os.getpid()}"
    monkeypatch.setenv("JACK_DEFAULT_SERVER", name)
    monkeypatch.setenv("JACK_NO_AUDIO_RESERVATION", "1")
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    monkeypatch.setenv("MIDO_BACKEND", "mido.backends.rtmidi/UNIX_JACK")
    log = tmp_path / "jack.log"
    with log.open("w") as out:
        server = subprocess.Popen(["jackd", "-r", "-n", name, "-d", "dummy"], stdout=out, stderr=out)
    try:
        time.sleep(1.5)
        if server.poll() is not None:
            pytest.skip(f"jackd does not start: {log.read_text()[-200:]}")
        yield
    finally:
        server.terminate()
        server.wait()


def test_midi_comes_through_a_port_of_the_system(jack, tmp_path):
    tests = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", CABLE, str(tmp_path / "midi.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tests.parent, env=env, timeout=60)
    posted, refused = done.stdout.splitlines()[-2:] if done.returncode == 0 else (done.stderr, "")
    assert posted == f"{[StrengthSet(2.0), StyleChosen(1), PresetChosen(0)]} 3"
    assert refused.startswith("no MIDI input is called 'nothing'; found on this machine: ")


@pytest.mark.parametrize("text", ["{", "[1]", '{"control 1": 5}', '{"control 1": ["no", null]}', "\xff"])
def test_damaged_midi_bindings_are_one_line(tmp_path, text):
    path = tmp_path / "midi.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError, match="holds no MIDI bindings"):
        MidiMap(path)


# -- tempo


def test_taps_make_a_tempo_that_continues_without_them():
    clock = BeatClock()
    assert clock.bpm is None
    assert clock.position(5) == 0
    for at in (10.0, 10.5, 11.02, 11.5):
        clock.beat(at)
    assert clock.bpm == pytest.approx(120, abs=5)
    assert clock.position(11.5) == 3
    assert clock.position(13.5) == pytest.approx(7, abs=0.2)
    clock.beat(11.55)
    assert clock.position(11.5) == 3, "a double tap is one"
    clock.beat(20)
    assert clock.period == pytest.approx(0.5, abs=0.05), "a tap after a pause keeps the tempo"
    clock.set_tempo(60, 21)
    assert clock.position(23) - clock.position(21) == pytest.approx(2)
    assert clock.since_beat(23.25) < 1


def test_beats_are_heard_in_audio_and_its_level_is_read():
    clock = BeatClock()
    meter = AudioMeter(clock)
    dice = np.random.default_rng(0)
    piece = RATE // 50
    levels = []
    for number in range(50 * 8):
        at = number / 50
        samples = dice.normal(0, 60, piece)
        if number % 30 < 4:  # a drum of 60 Hz, 100 beats a minute
            samples += 12000 * np.sin(2 * np.pi * 60 * (at + np.arange(piece) / RATE))
        meter.hear(AudioChunk(np.repeat(samples.astype(np.int16)[:, None], 2, 1), at))
        levels.append(meter.level)
    assert clock.bpm == pytest.approx(100, abs=3)
    assert max(levels) > 0.9
    assert min(levels[20:30]) < 0.6, "it falls between the beats"
    meter.hear(AudioChunk(np.zeros((0, 2), np.int16), 9.0))


# -- modulation


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("strength:sine:0.5hz:0.2..1", 0.2, 1),
        ("color_strength:triangle:4s", 0, 1),
        ("blend:saw:2hz:0.1..0.9", 0.1, 0.9),
        ("strength:square:4beats:0.5..1.5", 0.5, 1.5),
        ("strength:level:1..0", 0, 1),
        ("blend:beat", 0, 1),
    ],
)
def test_a_modulation_stays_in_its_range(text, low, high):
    clock, meter = BeatClock(), AudioMeter()
    for at in (0.0, 0.5, 1.0):
        clock.beat(at)
    modulator = Modulator.parse(text)
    values = []
    for step in range(800):
        meter.level = step % 100 / 99
        values.append(modulator.value(step / 100, clock, meter, allow_strobe=False))
    assert min(values) == pytest.approx(low, abs=0.15)
    assert max(values) == pytest.approx(high, abs=0.05)
    assert low - 1e-9 <= min(values) <= max(values) <= high + 1e-9


@pytest.mark.parametrize(
    "text",
    [
        "", "strength", "strength:sine", "strength:sine:1hz:0..3", "blend:sine:1hz:0..2", "size:sine:1hz",
        "strength:next:1s", "style:sine:1hz", "style:next", "strength:level:1hz", "strength:sine:0hz",
        "strength:sine:1.2.3hz", "strength:sine:1",
    ],
)  # fmt: skip
def test_what_is_no_modulation_is_one_line(text):
    with pytest.raises(SettingError) as refused:
        Modulator.parse(text)
    assert "\n" not in str(refused.value)


def test_faster_than_three_flashes_a_second_is_refused_unless_it_is_allowed():
    for text in ("strength:square:3.1hz", "blend:sine:0.2s", "style:next:10hz"):
        with pytest.raises(SettingError, match="photosensitive"):
            Modulator.parse(text)
        assert Modulator.parse(text, allow_strobe=True).seconds
    Modulator.parse("strength:square:3hz")


def flashes(values: list[float], rate: int) -> int:
    """The most pairs of opposing changes of a tenth or more within any second."""
    turns, direction, last = [], 0, values[0]
    for place, value in enumerate(values):
        if abs(value - last) >= 0.1:
            if np.sign(value - last) != direction:
                direction = np.sign(value - last)
                turns.append(place / rate)
            last = value
    return max((sum(at <= turn < at + 1 for turn in turns) // 2 for at in turns), default=0)


@pytest.mark.parametrize("allow", [False, True])
def test_nothing_that_is_sent_makes_more_than_three_flashes_a_second(allow):
    modulation = Modulation(BeatClock(), AudioMeter(), allow_strobe=allow)
    look = Look(Controls(), modulation)
    strengths, blacks = [], []
    for number in range(300):  # 60 frames a second; another strength and blackout with each
        now = number / 60
        look.set_strength(float(number % 2), now)
        look.blacked_out = bool(number % 2)
        strengths.append(look.controls(now).luma)
        blacks.append(float(look.black(now)))
    if allow:
        assert flashes(strengths, 60) > 10
    else:
        assert flashes(strengths, 60) <= 3
        assert flashes(blacks, 60) <= 3


def test_beats_that_are_too_fast_are_followed_in_half_time():
    clock = BeatClock()
    clock.set_tempo(300, 0)
    modulation = Modulation(clock, AudioMeter())
    modulation.set(["strength:square:1beat"])
    values = [modulation.value("strength", 1.0, at / 60) for at in range(300)]
    assert 1 <= flashes(values, 60) <= 3
    modulation.set(["style:next:1beat"])
    steps = sum(len(modulation.steps(at / 60)) for at in range(301))
    assert 10 <= steps <= 15


def test_a_limiter_lets_a_slow_hand_through_untouched():
    limiter = TurnLimiter(0.0)
    wanted = [0.5 - 0.5 * math.cos(2 * math.pi * 2 * at / 60) for at in range(120)]
    got = [limiter.limit(value, at / 60) for at, value in enumerate(wanted)]
    assert got == wanted


# -- presets


SHOW = """
fade = 0.2
cycle = 30

[keys]
b = "blackout"
f1 = { preset = "end" }

[[preset]]
name = "intro"
style = "ink"
strength = 0.5
color_strength = 0

[[preset]]
name = "end"
style = "sketch"
blend = { style = "ink", share = 0.5 }
strength = 1.5
modulate = ["strength:sine:0.5hz:0.8..1"]
fade = 1.5
"""


def test_a_file_of_presets_is_read(tmp_path):
    path = tmp_path / "show.toml"
    path.write_text(SHOW)
    show = read_show(path, list_styles())
    assert show.names == ["intro", "end"]
    assert show.keys == {"b": Action.BLACKOUT, "f1": PresetChosen("end")}
    assert (show.fade, show.cycle) == (0.2, 30)
    assert show.presets[0].commands == (StyleChosen("ink"), StrengthSet(0.5), ColorStrengthSet(0.0))
    assert show.presets[1].fade == 1.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "is no TOML"),
        ("speed = 1", "has speed"),
        ("fade = -1", "seconds from 0 to 30"),
        ("cycle = 0.2", "cycle is a number of seconds from 1 to 86400"),
        ("[preset]", "written as"),
        ("[[preset]]", "preset 1 needs a name"),
        ("[[preset]]\nname='a'\nstyle='no'", "there is no style 'no'"),
        ("[[preset]]\nname='a'\nstrength=3", r"preset 1 \(a\): strength takes a number from 0 to 2"),
        ("[[preset]]\nname='a'\nzoom=3", "sets zoom"),
        ("[[preset]]\nname='a'\n[[preset]]\nname='a'", "two presets called 'a'"),
        ("[[preset]]\nname='a'\nmodulate=['strength:sine:9hz']", "photosensitive"),
        ("[keys]\nb = 'dance'", "key b: no such command"),
        ("[keys]\nb = { preset = 'no' }", "there is no preset 'no'"),
        ("[keys]\nb = 1", "is a word"),
    ],
)
def test_a_file_of_presets_that_is_none_is_one_line(tmp_path, text, words):
    path = tmp_path / "show.toml"
    path.write_text(text)
    with pytest.raises(SettingError, match=words) as refused:
        read_show(path, list_styles())
    assert "\n" not in str(refused.value).strip()
    with pytest.raises(SettingError, match="cannot read presets"):
        read_show(tmp_path / "absent.toml", [])


def test_the_presets_of_the_guide_can_be_read(tmp_path):
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "control.md").read_text("utf-8")
    path = tmp_path / "show.toml"
    path.write_text(guide.split("```toml\n")[1].split("```")[0], "utf-8")
    assert read_show(path, list_styles()).names == ["intro", "finale"]
    for word in (*NUMBERS, *SWITCHES, *BUTTONS):
        assert f"`{word}`" in guide or word in ("quit", "hud", "help"), word


def test_presets_are_chosen_glide_and_go_round(tmp_path):
    path = tmp_path / "show.toml"
    path.write_text(SHOW.replace("cycle = 30", "cycle = 1.0"))
    seen: list[float] = []

    def glides(state: SessionState) -> bool:
        seen.append(session._look.strength.at(time.perf_counter()))
        return seen[-1] == 0.5

    with NetworkCamera() as camera, live_session(camera.url) as (session, _):
        session.desk.show = read_show(path, list_styles())
        steps = (
            (StrengthSet(2.0), lambda s: s.strength == 2),
            (PresetChosen("intro"), glides),
            (Action.HUD, lambda s: s.preset == "intro" and s.style == "ink" and s.color_strength == 0),
            (Action.NEXT_PRESET, lambda s: s.preset == "end" and s.blend_style == "ink" and s.fade == 1.5),
            (Action.NEXT_PRESET, lambda s: s.preset == "intro"),
            (Action.CYCLE, lambda s: s.preset == "end"),
            (FadeSet(0.3), lambda s: s.fade == 0.3),
            (PresetChosen("intro"), lambda s: s.preset == "intro" and s.fade == 0.3),
            (PresetChosen("no"), lambda s: s.preset == "intro"),
        )
        assert len(run_and_post(session, *steps)) == len(steps)
    assert any(0.6 < value < 1.9 for value in seen), "it takes its time"


def test_what_was_used_last_is_remembered_where_that_is_asked_for(tmp_path):
    path = tmp_path / "state" / "live.json"
    assert recall(path, ["sketch", "ink"]) == []
    remember(replace(STATE, style="ink", split=0.25, blend=0.4, blend_style="sketch"), path)
    commands = recall(path, ["sketch", "ink"])
    assert {StyleChosen("ink"), StrengthSet(0.7), SplitSet(0.25), BlendSet(0.4, "sketch")} <= set(commands)
    assert StyleChosen("ink") not in recall(path, ["sketch"]), "a style that is gone"
    path.write_text(json.dumps({"strength": 99, "style": "sketch", "no": 1}))
    assert recall(path, ["sketch"]) == [StyleChosen("sketch")]
    for damaged in ("{", "[1]", "3"):
        path.write_text(damaged)
        assert recall(path, ["sketch"]) == []


# -- what is done to frames


def test_a_second_style_is_mixed_in_and_takes_over():
    with NetworkCamera() as camera, live_session(camera.url) as (session, kept):
        frames: dict[str, Frame] = {}

        def keeps(name: str, ready):
            def look(state: SessionState) -> bool:
                if not ready(state):
                    return False
                count = len(kept.frames)
                wait_until(lambda: len(kept.frames) > count + 3)
                frames[name] = kept.frames[-1]
                return True

            return look

        steps = (
            (Action.CROSSFADE, keeps("first", lambda s: True)),
            (BlendSet(1.0, "the_scream"), keeps("second", lambda s: session._styles._second is not None)),
            (BlendSet(0.5), keeps("half", lambda s: s.blend == 0.5)),
            (BlendSet(0.0), keeps("none", lambda s: s.blend == 0)),
        )
        assert len(run_and_post(session, *steps)) == 4
    chroma = {name: np.std(frame.planes.u.astype(float)) for name, frame in frames.items()}
    assert chroma["first"] < 1, "sketch is grey"
    assert chroma["none"] < 1
    assert chroma["second"] > 2
    assert chroma["half"] == pytest.approx(chroma["second"] / 2, rel=0.3)


def test_bypass_is_the_source_and_blackout_is_black():
    with NetworkCamera() as camera, live_session(camera.url) as (session, kept):

        def untouched(state: SessionState) -> bool:
            return len(kept.frames) > 5 and np.array_equal(kept.frames[-1].planes.y, session._source.planes.y)

        def dark(state: SessionState) -> bool:
            return bool(kept.frames) and kept.frames[-1].planes.y.max() <= 16

        steps = (
            (Action.BLACKOUT, dark),
            (SwitchSet(Action.BLACKOUT, True), dark),
            (SwitchSet(Action.BLACKOUT, False), lambda s: not dark(s)),
            (Action.BYPASS, lambda s: s.bypassed),
            (Action.HUD, untouched),
        )
        assert len(run_and_post(session, *steps)) == len(steps)


def test_what_is_asked_for_while_paused_arrives_although_it_may_not_turn_around_yet():
    with NetworkCamera() as camera, live_session(camera.url) as (session, kept):
        steps = (
            (Action.HUD, lambda s: len(kept.frames) > 2),
            (Action.PAUSE, lambda s: s.paused),
            (Action.BLACKOUT, lambda s: kept.frames[-1].planes.y.max() <= 16),
        )

        def there_and_back(state: SessionState) -> bool:
            if not turned:
                turned.extend([Action.BLACKOUT, Action.BLACKOUT, Action.BLACKOUT])  # within one frame
                for command in turned:
                    session.post(command)
            return not state.blacked_out and kept.frames[-1].planes.y.max() > 16

        turned: list[Action] = []
        assert len(run_and_post(session, *steps, (Action.HUD, there_and_back))) == 4


def test_a_snapshot_holds_the_split_as_the_window_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:] = (200, 60, 30)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    with NetworkCamera(picture=lambda n: data) as camera, live_session(camera.url) as (session, kept):
        steps = (
            (SplitSet(0.25), lambda s: s.split == 0.25 and len(kept.frames) > 2),
            (Action.SNAPSHOT, lambda s: (tmp_path / "rtstyle-0001.png").exists()),
        )
        assert len(run_and_post(session, *steps)) == 2
    saved = cv2.imread(str(tmp_path / "rtstyle-0001.png")).astype(int)
    left, right = saved[:, :30], saved[:, 60:]
    assert abs(left - (200, 60, 30)).mean() < 8
    assert np.ptp(right, axis=2).mean() < 8, "sketch is grey"
    assert np.std(kept.frames[-1].planes.u[:, :4].astype(float) - 128) < 3, "sinks get the whole frame"


def test_the_split_keeps_planes_of_odd_size_apart():
    a, b = flat(20, Size(65, 49)), flat(200, Size(65, 49))
    assert np.array_equal(split_frame(a, b, 0.0).planes.y, b.planes.y)
    assert np.array_equal(split_frame(a, b, 1.0).planes.y, a.planes.y)
    assert (split_frame(a, b, 0.5).planes.y[:, :32] == 20).all()


def test_brightness_that_swings_is_evened_out_and_a_change_of_light_is_shown():
    dice = np.random.default_rng(0)
    scene = cv2.resize(dice.integers(40, 200, (12, 16), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    chroma = np.full((60, 80), 140, np.uint8)

    def shown(gain: float) -> Frame:
        luma = np.clip((scene - 16.0) * gain + 16 + dice.normal(0, 1.5, scene.shape), 0, 255).astype(np.uint8)
        return Frame(Planes(luma, chroma, chroma), 0, Fraction(1, 90000), LIMITED)

    deflicker = Deflicker()
    swing = [shown(1 + 0.12 * math.sin(2 * math.pi * 3 * number / 30)) for number in range(90)]
    before = np.std([frame.planes.y.mean() for frame in swing[30:]])
    even = [deflicker.apply(frame, number / 30) for number, frame in enumerate(swing)]
    after = np.std([frame.planes.y.mean() for frame in even[30:]])
    assert before > 7
    assert after < before / 8, "a swing of 8 levels at 3 Hz"
    assert not np.shares_memory(even[-1].planes.y, swing[-1].planes.y)
    slow = [deflicker.apply(shown(1.2), 3 + number / 30) for number in range(200)]
    assert abs(slow[-1].planes.y.mean() - shown(1.2).planes.y.mean()) < 2, "a light that was turned up"
    dark = shown(0.4)
    assert deflicker.apply(dark, 10) is dark, "a cut"
    assert 1 / LARGEST_GAIN <= deflicker.gain <= LARGEST_GAIN


def test_frames_leave_so_late_as_is_asked_for_and_in_order():
    kept = Kept()
    with Fanout(lambda line: None, alone=True) as fanout:
        fanout.add("kept", kept, "all")
        fanout.delay = 0.3
        came: list[float] = []

        class Clock(Kept):
            def write(self, frame: Frame) -> None:
                came.append(time.perf_counter() - float(frame.pts * frame.time_base))

        fanout.add("clock", Clock(), "all")
        for level in range(10):
            fanout.write(flat(level + 20), time.perf_counter())
            time.sleep(0.03)
        assert len(kept.frames) <= 1
        wait_until(lambda: len(came) == 10)
        fanout.delay = 0.0
        fanout.write(flat(99), time.perf_counter())
    assert [int(frame.planes.y[0, 0]) for frame in kept.frames] == [*range(20, 30), 99]
    assert all(0.29 < late < 0.6 for late in came[:10])
    assert threading.active_count() < 20
    assert all(b.pts > a.pts for a, b in itertools.pairwise(kept.frames))
