"""What the user has is not lost: links, devices, pipes and strangers' files where rtstyle writes; damaged journals."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import look, make_clip

from rtstyle import files
from rtstyle.backends import Controls
from rtstyle.backends.plans import PlanCache, Recipe
from rtstyle.errors import OutputExistsError, RtstyleError, VideoWriteError
from rtstyle.files import check_file_output, free_name
from rtstyle.frame import Color, Frame, planes_from_rgb
from rtstyle.image import save_image, stylize_images
from rtstyle.live.images import save_snapshot
from rtstyle.live.sinks import stream_process
from rtstyle.live.sinks.playlist import Playlist
from rtstyle.live.sinks.stream import destination
from rtstyle.render import RenderOptions, segments, stylize_video
from rtstyle.render.batch import stylize_many
from rtstyle.render.journal import claim

FRAMES, SEGMENT = 30, 12
SAME = Controls(0, 0)
needs_devices = pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no /dev/null")


class Broken(Exception):
    pass


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: SEGMENT)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("files") / "in.mp4", width=64, height=48, times=range(FRAMES))


@pytest.fixture
def precious(tmp_path):
    """A folder of a user's files, and a frame of what is in it."""
    folder = tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    (folder / "letter.txt").write_text("dear")
    (folder / "deep" / "photo.jpg").write_bytes(b"\xff\xd8")
    return folder


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Kind and bytes of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        found[str(path.relative_to(folder))] = kind, path.read_bytes() if kind == stat.S_IFREG else b""
    return found


def interrupted(clip: Path, target: Path, after: int = 2 * SEGMENT + 3) -> Path:
    """Break a render off behind its second segment and return its work folder."""

    def stop(done: int, total: int | None, label: str) -> None:
        if done == after:
            raise Broken

    with pytest.raises(Broken):
        stylize_video(clip, target, progress=stop)
    return target.with_name(f".{target.name}.rtstyle")


# -- the hidden work folder ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.mp4", "out.nut", "%05d.png"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_in_place_of_the_work_folder_is_not_followed(clip, tmp_path, precious, name, overwrite):
    (tmp_path / f".{name}.rtstyle").symlink_to(precious)
    before = listing(precious)
    with pytest.raises(VideoWriteError, match="is a link: move it away"):
        stylize_video(clip, tmp_path / name, options=RenderOptions(overwrite=overwrite))
    assert listing(precious) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f".{name}.rtstyle", "precious"])


@pytest.mark.parametrize("name", ["out.mp4", "out.nut"])
def test_a_folder_of_that_name_with_strangers_files_is_left_alone(clip, tmp_path, precious, name):
    folder = tmp_path / f".{name}.rtstyle"
    shutil.copytree(precious, folder)
    before = listing(tmp_path)
    with pytest.raises(VideoWriteError, match=r"not a file of rtstyle: move it away"):
        stylize_video(clip, tmp_path / name, options=RenderOptions(overwrite=True))
    assert listing(tmp_path) == before


def test_a_link_in_the_work_folder_is_not_written_through(clip, tmp_path):
    for inside in ("lock", "journal.jsonl", "segment-00000.packets", "trial.mp4", "whole.mp4", "canvas-0.npz"):
        target = tmp_path / inside / "out.mp4"
        folder = target.with_name(".out.mp4.rtstyle")
        folder.mkdir(parents=True)
        letter = tmp_path / "letter.txt"
        letter.write_text("dear")
        (folder / inside).symlink_to(letter)
        with pytest.raises(VideoWriteError, match=f"{inside} is not a file of rtstyle"):
            stylize_video(clip, target, options=RenderOptions(overwrite=True))
        assert letter.read_text() == "dear"


def test_what_comes_into_the_work_folder_meanwhile_is_not_deleted(clip, tmp_path):
    letter = tmp_path / ".out.mp4.rtstyle" / "letter.txt"
    stylize_video(clip, tmp_path / "out.mp4", progress=lambda *_: letter.write_text("dear"))
    assert letter.read_text() == "dear"
    assert sorted(path.name for path in letter.parent.iterdir()) == ["letter.txt"]


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_only_this_user_may_enter_the_work_folder(clip, tmp_path):
    folder = tmp_path / ".out.mp4.rtstyle"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    seen = set()
    stylize_video(
        clip,
        tmp_path / "out.mp4",
        progress=lambda *_: seen.add(stat.S_IMODE(folder.stat().st_mode)),
        options=RenderOptions(overwrite=True),
    )
    assert seen == {0o700}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give folders away")
def test_a_work_folder_of_another_user_is_refused(clip, tmp_path):
    folder = tmp_path / ".out.mp4.rtstyle"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(VideoWriteError, match="belongs to another user"):
        stylize_video(clip, tmp_path / "out.mp4")


def test_a_leftover_of_a_killed_render_is_no_obstacle(clip, tmp_path):
    folder = interrupted(clip, tmp_path / "out.mp4")
    os.link(folder / "segment-00000.packets", tmp_path / "backup")  # as backups by hard links do
    (folder / "segment-00002.packets").write_bytes(b"half")
    os.link(folder / "segment-00002.packets", tmp_path / "backup2")
    report = stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))
    assert report.resumed_at == 2 * SEGMENT
    assert (tmp_path / "backup2").read_bytes() == b"half"
    assert len(look(tmp_path / "out.mp4").times) == FRAMES


# -- what exists under the output's name -----------------------------------------------------------


@pytest.fixture
def fifo(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes")
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_named_pipe_is_not_replaced_by_a_file(clip, tmp_path, fifo):
    for target in (fifo.with_suffix(".mp4"), fifo.with_suffix(".png"), fifo.with_suffix(".m3u8")):
        os.mkfifo(target)
        with pytest.raises(OutputExistsError):
            check_file_output(target, overwrite=False)
    with pytest.raises(VideoWriteError, match=r"fifo\.mp4: it is a named pipe, and only a file is replaced"):
        stylize_video(clip, tmp_path / "fifo.mp4", options=RenderOptions(overwrite=True))
    with pytest.raises(VideoWriteError, match="it is a named pipe"):
        stylize_video(clip, fifo, options=RenderOptions(muxer="mkv", overwrite=True))
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(VideoWriteError, match="it is a named pipe"):
        stylize_images(photo, tmp_path / "fifo.png", controls=SAME, overwrite=True)
    with pytest.raises(VideoWriteError, match="it is a named pipe"):
        destination(str(tmp_path / "fifo.m3u8"), overwrite=True)
    assert all((tmp_path / name).is_fifo() for name in ("fifo", "fifo.mp4", "fifo.png", "fifo.m3u8"))


@needs_devices
@pytest.mark.parametrize("link", [False, True])
def test_a_device_is_not_replaced_by_a_file(clip, tmp_path, link):
    # A link to it: where this test fails, no machine is broken.
    device = tmp_path / "null.mkv"
    device.symlink_to("/dev/null")
    with pytest.raises(VideoWriteError, match="it is a device, and only a file is replaced"):
        check_file_output(device if link else Path("/dev/null"), overwrite=True)
    with pytest.raises(VideoWriteError, match="it is a device"):
        stylize_video(clip, device, options=RenderOptions(overwrite=True))
    assert device.is_symlink()


def test_what_became_of_the_name_meanwhile_is_looked_at_again(clip, tmp_path):
    target = tmp_path / "out.mp4"

    def put(done: int, total: int | None, label: str) -> None:
        if done == 3:
            os.mkfifo(target)

    with pytest.raises(VideoWriteError, match="it is a named pipe"):
        stylize_video(clip, target, progress=put)
    assert target.is_fifo()


@pytest.mark.parametrize(
    ("name", "appears", "kept", "linkless"),
    [
        ("out.mp4", "out.mp4", "out-2.mp4", False),  # in segments
        ("out.gif", "out.gif", "out-2.gif", False),  # straight through, as recordings are
        ("out.gif", "out.gif", "out-2.gif", True),
        ("f%03d.png", "f002.png", "kept/f002.png", False),
    ],
)
def test_what_appears_at_the_output_meanwhile_is_not_replaced(
    clip, tmp_path, monkeypatch, name, appears, kept, linkless
):
    def appear(done: int, total: int | None, label: str) -> None:
        if done == 10:
            (tmp_path / appears).write_text("dear")

    def refuse(*args: object) -> None:
        raise PermissionError("no links")

    if linkless:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputExistsError, match=f"{appears} appeared .* the result is kept in .*{kept[:4]}"):
        stylize_video(clip, tmp_path / name, controls=SAME, progress=appear)
    assert (tmp_path / appears).read_text() == "dear"
    assert (tmp_path / kept).stat().st_size > 100
    assert not list(tmp_path.glob(".*")), "a work folder was left"


def test_an_image_that_appears_meanwhile_is_not_replaced(tmp_path):
    (tmp_path / "out.png").write_text("dear")
    with pytest.raises(OutputExistsError, match="exists already"):
        save_image(tmp_path / "out.png", np.zeros((32, 32, 3), np.uint8), overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_text() == "dear"


def test_a_link_that_leads_nowhere_is_a_name_that_is_taken(clip, tmp_path):
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(OutputExistsError):
        stylize_video(clip, link)
    assert free_name(link).name == "out-2.mp4"
    stylize_video(clip, link, options=RenderOptions(overwrite=True))
    assert not link.is_symlink()
    assert not (tmp_path / "gone.mp4").exists()


def test_a_batch_does_not_take_what_is_no_file_for_a_finished_one(clip, tmp_path):
    os.mkfifo(tmp_path / "in.mp4")
    (outcome,) = stylize_many(
        [clip], tmp_path, lambda source, target, progress: stylize_video(source, target, progress=progress)
    ).outcomes
    assert outcome.status == "failed"
    assert "in.mp4 exists already" in outcome.reason


def test_frames_of_a_sequence_are_not_replaced_without_being_asked(clip, tmp_path):
    (tmp_path / "0007.png").write_bytes(b"a photo")
    with pytest.raises(OutputExistsError, match=r"0007\.png exists already; give -y"):
        stylize_video(clip, tmp_path / "%04d.png")
    assert (tmp_path / "0007.png").read_bytes() == b"a photo"
    stylize_video(clip, tmp_path / "x%04d.png")
    stylize_video(clip, tmp_path / "%04d.png", options=RenderOptions(overwrite=True))
    assert len(list(tmp_path.glob("*.png"))) == 2 * FRAMES


# -- temporary names -------------------------------------------------------------------------------


def test_a_frame_is_written_through_no_link(tmp_path, monkeypatch):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    (tmp_path / f".out.{os.getpid()}.part.png").symlink_to(letter)  # the name that earlier releases took
    save_image(tmp_path / "out.png", np.zeros((32, 32, 3), np.uint8))
    assert letter.read_text() == "dear"
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "guessed")
    (tmp_path / ".out.png.guessed.part").symlink_to(letter)
    with pytest.raises(FileExistsError):
        files.write_whole(tmp_path / "out.png", b"new")
    assert letter.read_text() == "dear"


def test_a_link_under_the_name_itself_is_replaced_and_not_followed(tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    (tmp_path / "out.png").symlink_to(letter)
    files.write_whole(tmp_path / "out.png", b"new")
    assert letter.read_text() == "dear"
    assert (tmp_path / "out.png").read_bytes() == b"new"


def test_names_as_long_as_the_file_system_takes_can_be_written(tmp_path):
    name = "ä" * 125 + ".jpg"
    save_image(tmp_path / name, np.zeros((32, 32, 3), np.uint8))
    assert os.listdir(tmp_path) == [name]


def test_a_cache_of_plans_writes_and_reads_through_no_link(tmp_path):
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    cache, recipe = PlanCache(tmp_path / "cache"), Recipe("style 64x48", b"graph", "trt 10", ())
    cache.folder.mkdir()
    (cache.folder / f".{recipe.stem}-sm_80.plan.{os.getpid()}.part").symlink_to(letter)
    cache.build_once(recipe, ("sm_80",), lambda: (b"plan", None))
    assert letter.read_text() == "dear"
    lock = cache.folder / f"{recipe.stem}.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(letter)
    with pytest.raises(OSError, match="is a link or no file"):
        cache.build_once(recipe, ("sm_80",), lambda: (b"plan", None))
    assert letter.read_text() == "dear"


def test_a_cache_of_plans_does_not_wait_for_pipes(tmp_path):
    cache, recipe = PlanCache(tmp_path / "cache"), Recipe("style 64x48", b"graph", "trt 10", ())
    plan = cache.build_once(recipe, ("sm_80",), lambda: (b"plan", None))
    about = plan.path.with_suffix(".json")
    about.unlink()
    os.mkfifo(about)
    os.mkfifo(cache.folder / f"{recipe.stem}-sm_80.refused")
    assert cache.refusal(recipe, "sm_80") is None
    assert cache.find(recipe, "sm_80") is None


def test_clearing_a_cache_removes_only_what_it_made(tmp_path, precious):
    cache, recipe = PlanCache(precious), Recipe("style 64x48", b"graph", "trt 10", ())
    (precious / "settings.json").write_text("{}")
    (precious / "business.plan").write_text("sell")
    before = listing(precious)
    cache.build_once(recipe, ("sm_80",), lambda: (b"plan", None))
    assert cache.clear() == 1
    assert {name: entry for name, entry in listing(precious).items() if not name.endswith(".lock")} == before


def test_a_snapshot_passes_over_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "rtstyle-0001.png").symlink_to(tmp_path / "gone.png")
    color = Color("bt601", full_range=True)
    frame = Frame(planes_from_rgb(np.zeros((32, 32, 3), np.uint8), color), 0, 1, color)
    assert save_snapshot(frame, tmp_path).name == "rtstyle-0002.png"
    assert not (tmp_path / "gone.png").exists()


def test_hls_is_not_written_through_links(tmp_path):
    (tmp_path / "live-1700000000.ts").symlink_to(tmp_path / "letter.txt")
    with pytest.raises(VideoWriteError, match="no ordinary file: move it away"):
        destination(str(tmp_path / "live.m3u8"), overwrite=True)


def test_a_link_that_comes_while_hls_is_written_is_not_followed(tmp_path):
    letter, name = tmp_path / "letter.txt", tmp_path / "live-1.ts"
    letter.write_text("dear")
    name.symlink_to(letter)
    os.mkfifo(tmp_path / "pipe.ts")
    for path in (name, tmp_path / "pipe.ts", tmp_path / "missing" / "a.ts"):
        for overwrite in (False, True):
            with pytest.raises(OSError, match=r"ordinary|symbolic|No such|exists"):
                stream_process._open_plain(str(path), 0, {}, overwrite=overwrite)
    assert letter.read_text() == "dear"
    segment = tmp_path / "live-2.ts"
    with stream_process._open_plain(f"file:{segment}", 0, {}) as file:
        file.write(b"data")
    with pytest.raises(FileExistsError):
        stream_process._open_plain(str(segment), 0, {})
    assert segment.read_bytes() == b"data"
    with stream_process._open_plain(str(segment), 0, {}, overwrite=True) as file:
        file.write(b"new")
    assert segment.read_bytes() == b"new"


def version_of(playlist: Playlist, text: str) -> None:
    """Leave a version of a playlist where FFmpeg does."""
    playlist.hidden.with_name(f"{playlist.hidden.name}.tmp").write_text(text)
    os.replace(playlist.hidden.with_name(f"{playlist.hidden.name}.tmp"), playlist.hidden)


@pytest.mark.parametrize("links", [True, False])
def test_a_playlist_that_appears_during_a_session_is_not_replaced(tmp_path, monkeypatch, links):
    def refuse(*args: object) -> None:
        raise PermissionError("no links")

    if not links:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "live.m3u8"
    playlist = Playlist(path, overwrite=False)
    playlist.publish()
    assert not path.exists()
    for text in ("one", "two"):  # its own versions replace each other
        version_of(playlist, text)
        playlist.publish()
        assert path.read_text() == text
    path.unlink()
    version_of(playlist, "three")  # one that was removed comes back
    playlist.publish()
    assert path.read_text() == "three"
    for put in (lambda: path.write_text("dear"), lambda: path.symlink_to("gone"), lambda: path.mkdir()):
        path.unlink()
        put()
        before = listing(tmp_path)
        for _ in range(2):
            version_of(playlist, "four")
            with pytest.raises(OutputExistsError, match=r"live\.m3u8 appeared after the session began"):
                playlist.publish()
            playlist.discard()
            assert listing(tmp_path) == before


def test_y_replaces_a_playlist_that_appears_but_no_pipe(tmp_path):
    path = tmp_path / "live.m3u8"
    path.write_text("old")
    playlist = Playlist(path, overwrite=True)
    version_of(playlist, "new")
    playlist.publish()
    assert path.read_text() == "new"
    path.unlink()
    os.mkfifo(path)
    version_of(playlist, "newer")
    with pytest.raises(VideoWriteError, match="named pipe"):
        playlist.publish()
    assert path.is_fifo()


# -- damaged journals ------------------------------------------------------------------------------


def changed(line: dict[str, object], **values: object) -> bytes:
    return json.dumps(line | values).encode()


HEADERS = {
    "no JSON": lambda line: b"{",
    "deep JSON": lambda line: b"[" * 100_000,
    "a list": lambda line: b"[1]",
    "a number": lambda line: b"7",
    "nothing": lambda line: b"",
    "other version": lambda line: changed(line, rtstyle=-1),
    "no settings": lambda line: json.dumps({"rtstyle": line["rtstyle"]}).encode(),
    "settings a list": lambda line: changed(line, settings=[]),
}
LINES = {
    "a list": lambda line: b"[]",
    "null": lambda line: b"null",
    "no UTF-8": lambda line: b"\xff\xfe",
    "huge number": lambda line: json.dumps(line).replace("true", "1" * 5000).encode(),
    "file elsewhere": lambda line: changed(line, file="../../../etc/passwd"),
    "file a number": lambda line: changed(line, file=3),
    "pts a text": lambda line: changed(line, pts="abc"),
    "pts empty": lambda line: changed(line, pts=[]),
    "pts falling": lambda line: changed(line, pts=line["pts"][::-1]),
    "pts fractions": lambda line: changed(line, pts=[each + 0.5 for each in line["pts"]]),
    "pts far": lambda line: changed(line, pts=[each + (1 << 70) for each in line["pts"]]),
    "packets missing": lambda line: json.dumps({k: v for k, v in line.items() if k != "packets"}).encode(),
    "packets of two": lambda line: changed(line, packets=[each[:2] for each in line["packets"]]),
    "packet of no frame": lambda line: changed(line, packets=[[99, 10, True]]),
    "packets of negative size": lambda line: changed(line, packets=[[0, -1, True]]),
    "packets of 2 GB": lambda line: changed(line, packets=[[0, 1 << 31, True]]),
    "reorder a text": lambda line: changed(line, reorder="1"),
    "headers no digits": lambda line: changed(line, headers="xyz"),
    "frames wrong": lambda line: changed(line, frames=1),
    "damaged none": lambda line: changed(line, damaged=None),
    "digest none": lambda line: changed(line, digest=None),
}


@pytest.fixture(scope="module")
def broken_off(clip, tmp_path_factory):
    """A render that was interrupted behind its second segment, to be copied."""
    folder = tmp_path_factory.mktemp("broken_off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "segment_frames", lambda size: SEGMENT)
        return interrupted(clip, folder / "out.mp4")


def damaged(target: Path, *, resume: bool = True) -> None:
    """Claim an output whose journal is damaged: it is as if there were none, and a note says so."""
    folder, journal = claim(target, overwrite=not resume, resume=resume)
    with folder:
        assert journal is None
        assert len(folder.notes) == 1
        assert folder.notes[0].startswith(f"the interrupted render of {target} is damaged and cannot be resumed: ")
        assert folder.notes[0].isprintable()
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("kind", [*(f"0 {name}" for name in HEADERS), *(f"1 {name}" for name in LINES)])
def test_a_damaged_journal_counts_as_none_and_is_reported(broken_off, tmp_path, kind, resume):
    shutil.copytree(broken_off, tmp_path / broken_off.name)
    journal = tmp_path / broken_off.name / "journal.jsonl"
    lines = journal.read_bytes().splitlines()
    number, _, name = kind.partition(" ")
    damage = (HEADERS if number == "0" else LINES)[name]
    lines[int(number)] = damage(json.loads(lines[int(number)]))
    journal.write_bytes(b"\n".join(lines) + b"\n")
    damaged(tmp_path / "out.mp4", resume=resume)


def _npz(**arrays: object) -> bytes:
    import io

    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


ZERO = np.zeros(2)
CANVASES = {
    "empty": b"",
    "no zip": b"canvas" * 100,
    "npy": np.lib.format.magic(1, 0) + b"\x10\0" + b"{'descr': '|O'} \n",
    "no position": _npz(key_position=ZERO),
    "NaN": _npz(position=ZERO * np.nan, key_position=ZERO),
    "text": _npz(position=np.array("abc"), key_position=ZERO),
    "pickle": _npz(position=np.array([None, {}]), key_position=ZERO),
    "too few": _npz(position=ZERO, key_position=ZERO, key=np.zeros((4, 4), np.uint8)),
    "other size": _npz(
        position=ZERO, key_position=ZERO, last=np.zeros((104, 204), np.uint8), last_small=np.zeros((1, 1), np.float32)
    ),
    "cut off": _npz(position=ZERO, key_position=ZERO)[:-30],
}


@pytest.mark.parametrize("kind", CANVASES)
def test_a_damaged_canvas_counts_as_none_and_is_reported(broken_off, tmp_path, kind):
    shutil.copytree(broken_off, tmp_path / broken_off.name)
    (tmp_path / broken_off.name / "canvas-1.npz").write_bytes(CANVASES[kind])
    damaged(tmp_path / "out.mp4")


def test_a_segment_that_lost_its_end_is_noticed_before_the_work(clip, broken_off, tmp_path):
    shutil.copytree(broken_off, tmp_path / broken_off.name)
    segment = tmp_path / broken_off.name / "segment-00001.packets"
    segment.write_bytes(segment.read_bytes()[:-1])
    report = stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))
    assert report.resumed_at == 0
    assert report.warnings[-1].endswith("cannot be resumed: segment-00001.packets is missing or cut off")
    assert os.listdir(tmp_path) == ["out.mp4"]


SETTINGS = [{"backend": 7}, {"precision": None}, {"options": []}, {"options": {"stats": "/tmp/x"}}, {"size": ["\x1b"]}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_of_a_journal_are_compared_and_not_trusted(clip, broken_off, tmp_path, settings):
    shutil.copytree(broken_off, tmp_path / broken_off.name)
    journal = tmp_path / broken_off.name / "journal.jsonl"
    first, *rest = journal.read_bytes().splitlines()
    line = json.loads(first)
    line["settings"] |= settings
    journal.write_bytes(b"\n".join([json.dumps(line).encode(), *rest]) + b"\n")
    with pytest.raises(RtstyleError, match="cannot resume") as error:
        stylize_video(clip, tmp_path / "out.mp4", options=RenderOptions(resume=True))
    assert str(error.value).isprintable()
    assert journal.exists()
