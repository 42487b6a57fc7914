"""What fuzz.py tries beside videos: styles, journals, JPEG headers, HTTP requests, playlists.

Each kind makes the input of a seed in the folder where it runs and hands it to the part of rtstyle that reads it.
Refusing it with an error of rtstyle is as good as taking it. Anything else that is raised is a fault, as are lines of a
log with a traceback, an answer of 500, a connection or a file that was not to be opened.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rtstyle.errors import RtstyleError

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 31, 1 << 70, 1e308, float("nan"), "", "../../x", "\x1b[2J", [], [[]], {}, {"a": 1},
    "9" * 400,
)  # fmt: skip
"""Values that stand where others are expected."""


def spoiled(chance: random.Random, data: bytes, reach: int = 1 << 30) -> bytes:
    """Flip bits, overwrite, cut, insert and repeat at random.

    Args:
        reach: Bytes from the begin that are changed.
    """
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        end = min(len(changed), reach)
        place, length = chance.randrange(end or 1), chance.choice((1, 2, 4, 16, 200))
        match chance.randrange(6):
            case 0 | 1 if end:
                changed[place] ^= 1 << chance.randrange(8)
            case 2:
                changed[place : place + length] = chance.randbytes(length)
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[place : place + length] * chance.choice((1, 10, 1000))
            case _:
                changed[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\r\n\r\n"))
    return bytes(changed[: len(changed) // 2] if chance.random() < 0.05 else changed)


def with_odd_value(chance: random.Random, value: Any) -> Any:
    """Return JSON in which one value, at any depth, is another one or gone."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: each for name, each in value.items() if name != key}
        return rest if chance.random() < 0.1 else {**rest, key: with_odd_value(chance, value[key])}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [*value[:place], with_odd_value(chance, value[place]), *value[place + 1 :]]
    return chance.choice(ODD)


def replaced(chance: random.Random, path: Path, outside: Path) -> None:
    """Put a link, a pipe, a folder or nothing in place of a file."""
    path.unlink(missing_ok=True)
    kind = chance.randrange(5)
    if kind == 0:
        path.symlink_to(outside / "letter.txt")
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.mkdir()


# -- styles ----------------------------------------------------------------------------------------


def _edit_trunk(chance: random.Random, data: bytes) -> bytes:
    """Change a node, an attribute, a weight or a wire of a network."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    for _ in range(chance.choice((1, 1, 3))):
        node, tensor = chance.choice(list(graph.node)), chance.choice(list(graph.initializer))
        match chance.randrange(10):
            case 0:
                node.op_type = chance.choice(
                    ("Loop", "Expand", "If", "Tile", "Scan", "Resize", "ConstantOfShape", "Max")
                )
            case 1 if node.attribute:
                attribute = chance.choice(list(node.attribute))
                attribute.CopyFrom(
                    helper.make_attribute(attribute.name, chance.choice((-1, 1 << 40, [0, 0], "x", [7] * 9)))
                )
            case 2 if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice(("x", "z", "s", "", tensor.name))
            case 3:
                tensor.name = chance.choice(("x", "", tensor.name + "2", "tail.weight"))
            case 4:
                tensor.dims[:] = chance.choice(([1 << 40], [-1, 3], [], [0, 0, 0, 0], [24, 16, 3, 3]))
            case 5:
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value="../../outside/letter.txt")
            case 6:
                array = (
                    numpy_helper.to_array(tensor).copy() if tensor.raw_data and tensor.data_type == 1 else np.zeros(1)
                )
                array.flat[0] = chance.choice((np.nan, np.inf, 3e38))
                tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
            case 7:
                graph.node.append(node)
            case 8:
                graph.node.remove(node)
            case _:
                graph.input[0].type.tensor_type.elem_type = chance.choice((2, 7, 11, 16, 99))
    return model.SerializeToString()


def try_style(chance: random.Random, outside: Path) -> None:
    """A style folder with one thing wrong: it is refused, or is a trunk of the shipped shape."""
    from rtstyle.style import load_style
    from rtstyle.whitelist import NODES

    folder = Path(shutil.copytree(load_style("sketch", "fast").folders[0][0], "style"))
    path = folder / chance.choice(("trunk.onnx", "trunk.onnx", "trunk.onnx", "int8.json", "style.json"))
    if chance.random() < 0.05:
        replaced(chance, path, outside)
    elif path.suffix == ".json" and chance.random() < 0.7:
        path.write_text(json.dumps(with_odd_value(chance, json.loads(path.read_text()))))
    elif path.suffix == ".onnx" and chance.random() < 0.6:
        path.write_bytes(_edit_trunk(chance, path.read_bytes()))
    else:
        path.write_bytes(spoiled(chance, path.read_bytes(), chance.choice((100, 9000, 1 << 30))))
    style = load_style(folder)
    trunk = style.trunk
    assert {node.op_type for node in trunk.model.graph.node} <= set(NODES)
    assert all(np.isfinite(weights).all() for weights in trunk.weights.values())
    _ = style.int8


# -- journals --------------------------------------------------------------------------------------


def try_journal(chance: random.Random, outside: Path) -> None:
    """A work folder with one thing wrong: it counts as none, or as that of an interrupted render."""
    from rtstyle.render.journal import claim

    folder = Path(shutil.copytree(_interrupted(outside), ".out.mp4.rtstyle"))
    path = chance.choice(sorted(folder.iterdir()))
    path = folder / "journal.jsonl" if chance.random() < 0.7 else path
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else []
    if chance.random() < 0.1:
        replaced(chance, path, outside)
    elif lines and chance.random() < 0.7:
        place = chance.randrange(len(lines))
        lines[place] = json.dumps(with_odd_value(chance, json.loads(lines[place]))).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path.write_bytes(spoiled(chance, path.read_bytes()))
    resume = chance.random() < 0.7
    work, journal = claim(Path("out.mp4"), overwrite=not resume, resume=resume)
    with work:
        for segment in journal.segments if journal else ():
            assert Path(segment.file).name == segment.file
            assert (work.path / segment.file).is_file()


def _interrupted(outside: Path) -> Path:
    """A work folder as an interrupted render leaves it; made once for all, by the first process that needs it."""
    folder = outside.parent / "interrupted"
    if not folder.exists():
        from clips import make_clip

        from rtstyle.render import segments, stylize_video

        made = outside.parent / f"making-{os.getpid()}"
        made.mkdir()
        clip = make_clip(made / "in.mp4", width=64, height=48, times=range(30))

        def stop(done: int, total: int | None, label: str) -> None:
            if done == 27:
                raise KeyError

        length, segments.segment_frames = segments.segment_frames, lambda size: 12
        with suppress(KeyError):
            stylize_video(clip, made / "out.mp4", progress=stop)
        segments.segment_frames = length
        with suppress(OSError):  # another process was faster
            (made / ".out.mp4.rtstyle").rename(folder)
        shutil.rmtree(made)
    return folder


# -- JPEG headers ----------------------------------------------------------------------------------


@cache
def _jpegs() -> list[bytes]:
    import cv2

    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8), (640, 360))
    kinds = ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4], [cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    return [cv2.imencode(".jpg", image, options)[1].tobytes() for options in kinds]


def try_jpeg(chance: random.Random, outside: Path) -> None:
    """A JPEG of a visitor with something wrong in its header: it is refused or decoded, and never takes long."""
    from rtstyle.web import protocol
    from rtstyle.web.jpeg import JpegDecoder, JpegError

    data = chance.choice(_jpegs())
    scan = data.index(b"\xff\xda")
    if chance.random() < 0.5:
        data = spoiled(chance, data, scan + 14)
    else:  # a segment again and again, somewhere
        begin = chance.choice([i for i in range(2, scan + 1) if data[i] == 0xFF and data[i + 1] not in (0, 0xFF)])
        segment = data[begin : begin + 2 + int.from_bytes(data[begin + 2 : begin + 4], "big")]
        place = chance.choice((2, scan, len(data) - 2, len(data)))
        more = chance.choice((segment, b"\xff", b"\xff\xfe\x00\x02", b"\xff\xd0")) * chance.choice((1, 50, 20_000))
        data = data[:place] + more[: 1 << 20] + data[place:]
    begin_s = time.thread_time()
    with suppress(JpegError):
        JpegDecoder(protocol.MAX_PIXELS).decode(data[: protocol.MAX_MESSAGE])
    assert time.thread_time() - begin_s < 0.5, f"{time.thread_time() - begin_s:.1f} s of CPU time"


# -- HTTP requests ---------------------------------------------------------------------------------


class _Lines(logging.Handler):
    """Keeps what a log would show."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.name}: {record.getMessage()}: {record.exc_info}")


@cache
def _pages() -> tuple[int, str, _Lines]:
    from rtstyle.live.session import SessionState
    from rtstyle.web.address import Address
    from rtstyle.web.preview import BrowserPreview

    state = SessionState(
        styles=("sketch",), style="sketch", loading=None, strength=1.0, keeps_colors=False, crossfades=True,
        holds=True, mirrored=False, paused=False, recording=False, figures="",
    )  # fmt: skip
    preview = BrowserPreview(Address(port=0), lambda command: None, lambda: state)
    lines = _Lines()
    logging.getLogger().addHandler(lines)
    _, _, rest = preview.url().partition("://127.0.0.1:")
    port, _, token = rest.partition("/?token=")
    return int(port), token, lines


REQUEST = (
    "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    "Content-Type: application/json; charset=utf-8\r\nCookie: rtstyle_{port}={token}\r\nContent-Length: {length}\r\n"
    "Sec-Fetch-Site: same-origin\r\nUser-Agent: Mozilla/5.0\r\n\r\n{body}"
)


def try_http(chance: random.Random, outside: Path) -> None:
    """A request with something wrong: any answer but 5xx, no line in the log, and the server continues."""
    port, token, lines = _pages()
    body = chance.choice(('{"strength": 1}', '{"action": "quit"}', "[" * 150, '{"style": 1e999}', "", "\x00"))
    text = REQUEST.format(
        method=chance.choice(("GET", "GET", "POST", "PUT", "HEAD")),
        path=chance.choice(("/", "/state", "/command", "/style.css", "/styles/0.jpg", "/?token=x", "/..%2f", "/%00")),
        port=port,
        token=token,
        length=len(body),
        body=body,
    )
    data = text.encode("latin-1")
    for _ in range(chance.choice((0, 1, 1))):
        head = [line.encode("latin-1") for line in text.split("\r\n")]
        place = chance.randrange(len(head))
        name, _, value = head[place].partition(b": ")
        strange = (
            b"[",
            b"[::1",
            b"a" * 9000,
            b"\xff\xfe",
            b"-1",
            b"99999",
            b"",
            b";=",
            b"*/*, x",
            value * 2,
            b"a:b:c@d",
        )
        head[place] = name + b": " + chance.choice(strange)
        data = b"\r\n".join(head)
    if chance.random() < 0.5:
        data = spoiled(chance, data)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(data)
        with suppress(OSError):
            line.shutdown(socket.SHUT_WR)
        got = b""
        with suppress(ConnectionError):
            while piece := line.recv(1 << 16):
                got += piece
    statuses = [part.split(b" ")[0] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert not any(status.startswith(b"5") for status in statuses), got[:300]
    assert not lines.said, lines.said


# -- playlists -------------------------------------------------------------------------------------


@cache
def _canary() -> socket.socket:
    """A port that must not be connected to."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def _playing(chance: random.Random, goals: Sequence[str]) -> str:
    """A playlist of a video that plays, with oddities between its segments; some lead elsewhere behind it."""
    oddities = (
        "#EXT-X-DISCONTINUITY", "#EXT-X-BYTERANGE:1880@0", "#EXT-X-PROGRAM-DATE-TIME:2020-01-01T00:00:00Z", "# words",
        "", "#EXT-X-KEY:METHOD=NONE", "#EXTINF:nan,", "#EXTINF:-5,", "#EXT-X-MEDIA-SEQUENCE:99999999999",
        f'#EXT-X-MAP:URI="{chance.choice(goals)}"', f'#EXT-X-KEY:METHOD=AES-128,URI="{chance.choice(goals)}"',
        "#EXT-X-TARGETDURATION:0", "#EXT-X-ENDLIST", "#EXTM3U", "#EXT-X-STREAM-INF:BANDWIDTH=1",
    )  # fmt: skip
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
    for number in range(chance.randrange(1, 5)):
        lines += chance.sample(oddities, chance.choice((0, 0, 1, 2))) if number else []
        own = chance.choice(("own.ts", "./own.ts", os.path.abspath("own.ts"), "nowhere/../own.ts"))
        lines += ["#EXTINF:0.4,", own if not number or chance.random() < 0.6 else chance.choice(goals)]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _leading(chance: random.Random, goal: str, other: str, port: int) -> str:
    """A text of any kind that leads to ``goal`` and ``other``."""
    return chance.choice(
        (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{goal}\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n",
            f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{goal}"\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n',
            f'#EXTM3U\n#EXT-X-MAP:URI="{goal}"\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n',
            f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{goal}\n",
            f"ffconcat version 1.0\nfile '{goal}'\nfile '{other}'\n",
            '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="video/mp4">'
            f'<Representation id="0" bandwidth="1"><BaseURL>{goal}</BaseURL></Representation>'
            "</AdaptationSet></Period></MPD>",
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
            f"[playlist]\nFile1={goal}\n",
        )
    )


def try_playlist(chance: random.Random, outside: Path) -> None:
    """A text that leads elsewhere, under any name: nothing that was not given is opened."""
    from rtstyle.video import ReaderSettings, VideoReader, opening

    opening._PATIENCE = 1.0  # for which playlists without an end may grow
    shutil.copy(outside.parent / "own.ts", "own.ts")
    port = _canary().getsockname()[1]
    secret = outside / "secret.ts"
    goals = (
        "own.ts", "own.ts", "own.ts", str(secret), f"file:{secret}", os.path.relpath(secret), f"http://127.0.0.1:{port}/a.ts",
        f"tcp://127.0.0.1:{port}", f"crypto:{secret}", f"concat:{secret}|{secret}",
        f"subfile,,start,0,end,0,,:{secret}",
        f"data:,{secret}", "own.ts#EXT", "/dev/zero", f"https://127.0.0.1:{port}/", f"async:file:{secret}",
    )  # fmt: skip
    goal, other = chance.choice(goals), chance.choice(goals)
    if chance.random() < 0.6:
        text, name = _playing(chance, goals), "in.m3u8"
        spoil = chance.random() < 0.2
    else:
        text = _leading(chance, goal, other, port)
        name = "in" + chance.choice((".m3u8", ".m3u8", ".mp4", ".mpd", ".sdp", ".ts", ".txt", ".ffconcat", ".mkv"))
        spoil = chance.random() < 0.5
    path = Path(name)
    path.write_bytes(spoiled(chance, text.encode()) if spoil else text.encode())
    try:
        with VideoReader(path, settings=ReaderSettings(timeout=3)) as reader:
            assert reader.size.width == 96, "it played what was not given"
            for frame, _ in zip(reader, range(25), strict=False):
                assert frame.size.width == 96, "it played what was not given"
    finally:
        with suppress(BlockingIOError):
            _canary().accept()
            raise AssertionError("it asked at another port")


KINDS: dict[str, Callable[[random.Random, Path], None]] = {
    "styles": try_style,
    "journals": try_journal,
    "jpegs": try_jpeg,
    "http": try_http,
    "playlists": try_playlist,
}


def prepare(folder: Path) -> Path:
    """Make, in a folder, what lies beside the sandboxes and is not to be changed; return where."""
    sys.path.insert(0, str(Path(__file__).parent))
    from clips import make_clip

    outside = folder / "outside"
    outside.mkdir()
    (outside / "letter.txt").write_text("dear")
    make_clip(outside / "secret.ts", width=64, height=48)
    make_clip(folder / "own.ts", width=96, height=80)
    return outside


def main(words: list[str]) -> int:
    """Try the input of a seed in this folder; words are kind, seed and the folder ``outside``."""
    kind, seed, outside = words
    try:
        KINDS[kind](random.Random(f"{kind} {seed}"), Path(outside))
    except RtstyleError as error:
        said = str(error)
        print(f"rtstyle: error: {said}", file=sys.stderr)
        assert "\n" not in said, "an error of several lines"
        return 1
    return 0
