"""360 degrees, stereo 3D and ICC profiles of videos: kept where the container states them, named where it does not."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest
from clips import Sound, look, make_clip

from rtstyle.backends import Controls
from rtstyle.render import RenderOptions, stylize_video
from rtstyle.verify import verify_media
from rtstyle.video.mp4 import add_to_video
from rtstyle.video.spatial import KINDS, Spatial, write_spatial

MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}
PROFILE = bytes(range(256)) * 3


def mapping(projection: int, *pose: float, bounds: tuple[int, ...] = (0, 0, 0, 0)) -> bytes:
    """AVSphericalMapping; the pose in degrees, bounds as left, top, right, bottom."""
    yaw, pitch, roll = (int(65536 * value) for value in pose or (0, 0, 0))
    return struct.pack("=4i5I", projection, yaw, pitch, roll, *bounds, 0)


def views(kind: int, right_first: int = 0) -> bytes:
    return struct.pack("=2i", kind, right_first)


CASES = {
    "a sphere": Spatial(mapping(0)),
    "a sphere that is turned, in 3D": Spatial(mapping(0, 45, -10, 0.5), views(2)),
    "a cube, in 3D": Spatial(mapping(1), views(1)),
    "a part of a sphere": Spatial(mapping(2, bounds=(1 << 28, 2 << 28, 3 << 28, 4 << 28))),
    "side by side": Spatial(b"", views(1)),
    "the right view first": Spatial(b"", views(1, 1)),
    "a profile": Spatial(b"", b"", PROFILE),
}


def carried(path: Path) -> dict[str, bytes]:
    """What FFmpeg reads with the first frame, as far as containers state it."""
    with av.open(str(path)) as container:
        data = next(container.decode(video=0)).side_data
        lengths = zip(KINDS, (32, 8, None), strict=True)
        return {kind: bytes(found)[:length] for kind, length in lengths if (found := data.get(kind)) is not None}


def make(path: Path, spatial: Spatial, *, fast: bool = True) -> Path:
    options = {} if path.suffix == ".webm" else None
    make_clip(
        path, times=range(5), codec="libvpx-vp9" if path.suffix == ".webm" else "libx264", options=options,
        sounds=[] if path.suffix == ".webm" else [Sound(seconds=0.2)],
        muxer={"movflags": "+faststart"} if fast and path.suffix in (".mp4", ".mov") else None,
    )  # fmt: skip
    assert write_spatial(path, MUXERS[path.suffix[1:]], spatial)
    return path


@pytest.mark.parametrize("ending", MUXERS)
@pytest.mark.parametrize("name", CASES)
def test_ffmpeg_reads_what_is_written_into_a_header(tmp_path, name, ending):
    spatial, muxer = CASES[name], MUXERS[ending]
    stated = spatial.stated_by(muxer)
    assert stated or name in ("a profile", "the right view first")
    if not stated:
        return
    path = make(tmp_path / f"a.{ending}", spatial)
    fields = {"SPHERICAL": spatial.spherical[:32], "STEREO3D": spatial.stereo, "ICC_PROFILE": spatial.profile}
    assert carried(path) == {kind: fields[kind] for kind in stated}
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)


@pytest.mark.parametrize("fast", [True, False])
def test_samples_are_found_where_the_index_has_grown(tmp_path, fast):
    path = make_clip(
        tmp_path / "a.mp4", times=range(5), sounds=[Sound(seconds=0.2)],
        muxer={"movflags": "+faststart"} if fast else None,
    )  # fmt: skip
    before = look(path)
    assert add_to_video(path, Spatial(b"", b"", PROFILE).boxes())
    after = look(path)
    assert after.packets == before.packets
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("damage", [b"", b"moov", b"\0\0\0\x08moov", b"\0\0\0\x20moov\xff\xff\xff\xfftrak" + bytes(20)])
def test_an_index_that_is_not_understood_is_left_alone(tmp_path, damage):
    (tmp_path / "a.mp4").write_bytes(damage)
    assert not add_to_video(tmp_path / "a.mp4", b"boxes")
    assert (tmp_path / "a.mp4").read_bytes() == damage


@pytest.mark.parametrize(
    ("name", "source", "targets"),
    [
        ("a sphere that is turned, in 3D", "in.mp4", ("out.mp4", "out.mkv", "out.webm")),
        ("a part of a sphere", "in.mkv", ("out.mov",)),
        ("the right view first", "in.mkv", ("out.webm",)),
        ("a profile", "in.mov", ("out.mp4",)),
    ],
)
def test_a_render_keeps_it_and_verify_sees_it(tmp_path, name, source, targets):
    clip = make(tmp_path / source, CASES[name])
    for target in targets:
        report = stylize_video(clip, tmp_path / target, controls=Controls(0, 0))
        assert not [line for line in report.warnings if "lost" in line or "3D" in line]
        assert carried(tmp_path / target) == carried(clip)
        found = verify_media(clip, tmp_path / target)
        assert found.differences == ()
        assert {finding.subject for finding in found.findings} & {"360 degree projection", "stereo 3D", "color profile"}


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("a sphere", "out.ts", "its projection is lost"),
        ("a profile", "out.mkv", "its ICC color profile is lost"),
        ("the right view first", "out.mp4", "stereoscopic"),
    ],
)
def test_what_a_container_cannot_state_is_named_and_differs(tmp_path, name, target, words):
    clip = make(tmp_path / ("in.mp4" if name == "a profile" else "in.mkv"), CASES[name])
    report = stylize_video(clip, tmp_path / target, controls=Controls(0, 0))
    assert any(words in line for line in report.warnings)
    assert len(verify_media(clip, tmp_path / target).differences) == 1


GRADED = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):"
    "max-cll=1000,400:log-level=none"
)


@pytest.mark.parametrize("hdr", [False, True])
def test_hdr10_metadata_goes_with_hdr_and_is_named_elsewhere(tmp_path, hdr):
    clip = make_clip(
        tmp_path / "in.mp4", times=range(4), codec="libx265", options={"x265-params": GRADED},
        tags=(9, 1, 9, 16) if hdr else (1, 1, 1, 1),
    )  # fmt: skip
    report = stylize_video(clip, tmp_path / "out.mp4", controls=Controls(0, 0))
    assert any("HDR10 metadata" in line for line in report.warnings) != hdr
    found = {finding.subject: finding.verdict for finding in verify_media(clip, tmp_path / "out.mp4").findings}
    expected = "intended" if hdr else "differs"
    assert (found["mastering display"], found["content light level"]) == (expected, expected)


def test_verify_sees_another_projection(tmp_path):
    one = make(tmp_path / "one.mp4", CASES["a sphere"])
    other = make(tmp_path / "other.mp4", Spatial(mapping(0, 90, 0, 0)))
    (difference,) = verify_media(one, other).differences
    assert (difference.subject, difference.words) == ("360 degree projection", "other than in the input")


def test_a_video_that_is_turned_upright_has_no_projection_any_more(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(5), rotation=90)
    assert write_spatial(clip, "mp4", CASES["a sphere"])
    report = stylize_video(clip, tmp_path / "out.gif", controls=Controls(0, 0), options=RenderOptions())
    assert any("its projection is lost" in line for line in report.warnings)
