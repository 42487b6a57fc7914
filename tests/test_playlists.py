"""What FFmpeg opens is what was given: no text leads it to other files or hosts, whatever it is called."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from clips import make_clip

from rtstyle.camera import open_source
from rtstyle.cli import main
from rtstyle.errors import RtstyleError, VideoOpenError
from rtstyle.video import ReaderSettings, VideoReader, opening, remote

FRAMES = 10


@pytest.fixture
def secret(tmp_path) -> Path:
    """A video that was not given."""
    (tmp_path / "private").mkdir()
    return make_clip(tmp_path / "private" / "secret.ts", width=64, height=48, times=range(FRAMES))


@pytest.fixture
def given(tmp_path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


def hls(*segments: object) -> str:
    lines = "".join(f"#EXTINF:0.4,\n{segment}\n" for segment in segments)
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{lines}#EXT-X-ENDLIST\n"


def dash(segment: object) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S">'
        f'<Period><AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>{segment}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    )


SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 45678 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)


def count(path: object, **options: object) -> int:
    with VideoReader(path, settings=ReaderSettings(**options)) as reader:
        return sum(1 for _ in reader)


@pytest.mark.parametrize("kind", ["ffconcat", "hls", "dash", "sdp"])
@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.txt"])
def test_a_text_that_is_named_like_a_video_leads_nowhere(given, secret, kind, name):
    text = {
        "ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "hls": hls(secret),
        "dash": dash(secret),
        "sdp": SDP,
    }[kind]
    (given / name).write_text(text)
    begin = time.monotonic()
    with pytest.raises(RtstyleError, match=r"is a playlist .*--allow-playlist|cannot be read as a video"):
        count(given / name)
    with pytest.raises(RtstyleError), open_source(str(given / name)) as source:
        next(iter(source))
    assert time.monotonic() - begin < 5, "it listened"


def test_a_relative_name_in_a_concat_list_is_refused_too_and_the_reason_is_one_line(given, capsys):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    (given / "in.mp4").write_text("ffconcat version 1.0\nfile a.ts\n")
    assert main(["video", str(given / "in.mp4"), str(given / "out.mp4")]) == 1
    said = capsys.readouterr().err
    assert f"error: {given / 'in.mp4'} is a playlist (concat), which may lead to any file or host; --allow" in said
    assert main(["verify", str(given / "in.mp4"), str(given / "a.ts")]) == 1


def test_a_playlist_that_was_named_plays_what_lies_in_its_folder(given):
    for name in ("a.ts", "b.ts"):
        make_clip(given / name, width=64, height=48, times=range(FRAMES))
    (given / "list.m3u8").write_text(hls("a.ts", given / "b.ts"))
    assert count(given / "list.m3u8") == 2 * FRAMES


def test_a_playlist_that_was_broken_off_is_played_from_begin_to_end(given, monkeypatch):
    """FFmpeg takes it for live: it would begin with the third last segment, and wait for ever behind the last."""
    for number in range(5):
        times = range(FRAMES * number, FRAMES * (number + 1))
        make_clip(given / f"{number}.ts", width=64, height=48, times=times)
    text = hls(*(f"{number}.ts" for number in range(5))).replace("#EXT-X-ENDLIST\n", "")
    (given / "list.m3u8").write_text(text)
    monkeypatch.setattr(opening, "_PATIENCE", 0.1)
    begin = time.monotonic()
    assert count(given / "list.m3u8") == 5 * FRAMES
    assert time.monotonic() - begin < 6


@pytest.mark.parametrize("damage", [b"\xff\xfe.ts", b"a" * 5000, b"a\0.ts"])
def test_a_damaged_playlist_is_one_line(given, damage, capfd):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    (given / "list.m3u8").write_bytes(hls("a.ts", "NAME", "NAME").encode().replace(b"NAME", damage))
    assert main(["video", str(given / "list.m3u8"), str(given / "out.mp4")]) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "dropped" not in said


def test_a_playlist_does_not_lead_out_of_its_folder_unless_that_is_allowed(given, secret):
    (given / "list.m3u8").write_text(hls(secret))
    for text in (hls(secret), hls("../private/secret.ts"), hls(f"file:{secret}")):
        (given / "list.m3u8").write_text(text)
        with pytest.raises(VideoOpenError, match=r"list\.m3u8 leads out of its folder, to .*secret\.ts; --allow-play"):
            count(given / "list.m3u8")
    (given / "link.ts").symlink_to(secret)
    (given / "list.m3u8").write_text(hls("link.ts"))
    with pytest.raises(VideoOpenError, match="leads out of its folder"):
        count(given / "list.m3u8")
    assert count(given / "list.m3u8", playlists=True) == FRAMES


def test_an_encrypted_playlist_says_so(given, secret):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    for method, encrypted in (("NONE", False), ("AES-128", True), ("SAMPLE-AES", True)):
        key = f'#EXT-X-KEY:METHOD={method},URI="file:{secret}"\n#EXTINF'
        (given / "list.m3u8").write_text(hls("a.ts").replace("#EXTINF", key))
        if encrypted:
            with pytest.raises(VideoOpenError, match=rf"list\.m3u8 is encrypted \({method}\); --allow-playlist"):
                count(given / "list.m3u8")
        else:
            assert count(given / "list.m3u8") == FRAMES


def test_several_names_that_are_refused_are_one_line(given, secret, capfd):
    (given / "list.m3u8").write_text(hls(secret, "../private/secret.ts", secret))
    assert main(["video", str(given / "list.m3u8"), str(given / "out.mp4")]) == 1
    said = capfd.readouterr().err
    assert said.count("leads out of its folder") == 1
    assert "Traceback" not in said


def test_a_later_segment_elsewhere_ends_the_video_with_an_error(given, secret, capfd):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    (given / "list.m3u8").write_text(hls("a.ts", secret))
    with pytest.raises((OSError, VideoOpenError)):
        count(given / "list.m3u8")
    assert "Traceback" not in capfd.readouterr().err


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if self.server.parts and asked and not self.path.startswith("/to/"):
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {asked}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - int(asked)))
            self.end_headers()
            self.wfile.write(data[int(asked) :])
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/").removesuffix("/end"))
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture
def serve():
    servers = []

    def start(folder: Path, address: tuple[str, int] = ("127.0.0.1", 0)) -> http.server.ThreadingHTTPServer:
        server = http.server.ThreadingHTTPServer(address, partial(_Handler, directory=str(folder)))
        server.asked, server.parts = [], False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_playlist_of_a_host_plays_what_is_there_and_leads_to_no_other(given, secret, serve):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    inside, outside = serve(secret.parent), serve(given)
    home = f"http://127.0.0.1:{outside.server_port}"
    elsewhere = f"http://127.0.0.1:{inside.server_port}/secret.ts"
    (given / "good.m3u8").write_text(hls("a.ts", f"{home}/a.ts"))
    assert count(f"{home}/good.m3u8", timeout=5) == 2 * FRAMES
    for text in (hls(elsewhere), hls(f"/to/{elsewhere}"), hls(f"file:{secret}"), hls(secret)):
        (given / "bad.m3u8").write_text(text)
        with pytest.raises(VideoOpenError):
            count(f"{home}/bad.m3u8", timeout=5)
        assert inside.asked == [], text
    (given / "bad.m3u8").write_text(hls(elsewhere))
    with pytest.raises(VideoOpenError, match=rf"bad\.m3u8 leads out of its host, to {elsewhere}; --allow-playlist"):
        count(f"{home}/bad.m3u8", timeout=5)
    assert count(f"{home}/bad.m3u8", timeout=5, playlists=True) == FRAMES


@pytest.mark.parametrize("name", ["video", "video.mp4", "stream.sdp"])
def test_what_a_host_sends_under_another_name_is_no_playlist(given, secret, serve, name):
    inside, outside = serve(secret.parent), serve(given)
    for text in (hls(f"http://127.0.0.1:{inside.server_port}/secret.ts"), SDP):
        (given / name).write_text(text)
        begin = time.monotonic()
        with pytest.raises(VideoOpenError):
            count(f"http://127.0.0.1:{outside.server_port}/{name}", timeout=10)
        with pytest.raises(RtstyleError), open_source(f"http://127.0.0.1:{outside.server_port}/{name}") as source:
            next(iter(source))
        assert time.monotonic() - begin < 8, "it listened"
    assert inside.asked == []


def test_an_address_that_moved_is_followed_but_not_into_the_machines_own_network(given, serve, monkeypatch):
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    (given / "list.m3u8").write_text(hls("a.ts"))
    inside, outside = serve(given), serve(given)
    home, own = f"http://127.0.0.1:{outside.server_port}", f"http://localhost:{inside.server_port}"
    assert count(f"{home}/to/{home}/a.ts", timeout=5) == FRAMES
    with pytest.raises(VideoOpenError, match="leads to a playlist"):
        count(f"{home}/to/{home}/list.m3u8/end", timeout=5)
    monkeypatch.setattr(remote, "is_public", lambda peer: False)  # from one machine of a private network to another
    assert count(f"{home}/to/{own}/a.ts", timeout=5) == FRAMES
    inside.asked.clear()
    answers = iter([True])
    monkeypatch.setattr(remote, "is_public", lambda peer: next(answers, False))
    for target in (f"{own}/a.ts", f"{home}/to/{own}/a.ts"):
        answers = iter([True])
        with pytest.raises(
            VideoOpenError, match=r"leads into this machine's own network, to .*give that address itself"
        ):
            count(f"{home}/to/{target}", timeout=5)
    assert inside.asked == []


class Names:
    """Stands in for DNS: a name that means another address each time; 127.0.0.2 plays a host of the internet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[str]] = {}
        self._asked = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)
        monkeypatch.setattr(remote, "is_public", lambda peer: peer == "127.0.0.2")

    def __call__(self, host: str, *args: object, **options: object) -> list[object]:
        if host in self.answers:
            given = self.answers[host]
            host = given.pop(0) if len(given) > 1 else given[0]
        return self._asked(host, *args, **options)


@pytest.mark.parametrize("kind", ["playlist", "redirect"])
def test_a_name_that_changes_its_address_after_the_check_leads_nowhere(given, serve, monkeypatch, kind):
    """DNS rebinding: the name is checked while it means a host of the internet, and then means this machine."""
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    (given / "list.m3u8").write_text(hls("a.ts"))
    inside, names = serve(given), Names(monkeypatch)
    outside = serve(given, ("127.0.0.2", inside.server_port))
    rebound, plain = f"http://rebound.test:{inside.server_port}", f"http://plain.test:{inside.server_port}"
    names.answers["plain.test"] = ["127.0.0.2"]
    address = {"playlist": f"{rebound}/list.m3u8", "redirect": f"{plain}/to/{rebound}/a.ts"}[kind]
    names.answers["rebound.test"] = ["127.0.0.2"]
    assert count(address, timeout=5) == FRAMES
    names.answers["rebound.test"] = ["127.0.0.2", "127.0.0.1"]
    with pytest.raises(VideoOpenError, match=r"leads into this machine's own network, to 127\.0\.0\.1"):
        count(address, timeout=5)
    assert inside.asked == []
    assert outside.asked


def test_a_file_that_moved_is_sought(given, serve):
    """An index at the end of an mp4 is found where the server gives parts; where it gives none, one line says so."""
    late = make_clip(given / "late.mp4", width=64, height=48, times=range(FRAMES))
    data, room = late.read_bytes(), 400_000
    index = data.index(b"moov") - 4
    late.write_bytes(data[:index] + room.to_bytes(4) + b"free" + bytes(room - 8) + data[index:])
    make_clip(given / "a.mkv", width=64, height=48, times=range(FRAMES))
    server = serve(given)
    home = f"http://127.0.0.1:{server.server_port}"
    server.parts = True
    assert count(f"{home}/to/{home}/late.mp4", timeout=5) == FRAMES
    assert server.asked.count("/late.mp4") >= 3, "it was not sought"
    server.parts = False
    assert count(f"{home}/to/{home}/a.mkv", timeout=5) == FRAMES
    with pytest.raises(VideoOpenError):
        count(f"{home}/to/{home}/late.mp4", timeout=5)


def test_which_addresses_are_of_the_machines_own_network():
    own = ("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "0.0.0.0")
    assert not any(map(remote.is_public, (*own, "::ffff:127.0.0.1", "2002:7f00:1::", "100.64.0.1")))
    assert all(map(remote.is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")))


def test_a_playlist_that_is_read_again_still_leads_nowhere(given, secret, serve):
    """A live one, whose second version names another host."""
    make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES))
    inside, outside = serve(secret.parent), serve(given)
    live = given / "live.m3u8"
    live.write_text(hls("a.ts").replace("#EXT-X-ENDLIST\n", ""))
    elsewhere = f"http://127.0.0.1:{inside.server_port}/secret.ts"
    with VideoReader(f"http://127.0.0.1:{outside.server_port}/live.m3u8", settings=ReaderSettings(timeout=3)) as reader:
        frames = iter(reader)
        next(frames)
        live.write_text(hls("a.ts", elsewhere))
        with suppress(OSError):
            for _ in frames:
                pass
    assert outside.asked.count("/live.m3u8") >= 2
    assert inside.asked == []


def test_a_named_pipe_is_read_and_one_without_a_writer_is_not_waited_for(given):
    pipe = given / "pipe"
    os.mkfifo(pipe)
    begin = time.monotonic()
    with pytest.raises(VideoOpenError, match=r"nothing came through the pipe .*/pipe for 0\.3 s"):
        count(pipe, timeout=0.3)
    assert time.monotonic() - begin < 5
    data = make_clip(given / "a.ts", width=64, height=48, times=range(FRAMES)).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert count(pipe) == FRAMES
    writer.join()


def test_a_stream_through_a_pipe_is_no_playlist(given, secret, monkeypatch):
    left, right = socket.socketpair()
    left.sendall(hls(secret).encode())
    left.close()
    saved = os.dup(0)
    try:
        os.dup2(right.fileno(), 0)
        monkeypatch.setattr("sys.stdin", None)
        with pytest.raises(VideoOpenError):
            count("-")
    finally:
        os.dup2(saved, 0)
        right.close()
