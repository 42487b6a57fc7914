"""A mask keeps the source where it is black, on every backend and in every command, and bad ones are named."""

import json
import signal
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import LOSSLESS, look, make_clip, moving_bar

from rtstyle import (
    EncoderSettings,
    EngineSettings,
    MaskSettings,
    RenderOptions,
    Size,
    Stylizer,
    VideoReader,
    open_engine,
    stylize_live,
    stylize_video,
)
from rtstyle.cli import main
from rtstyle.errors import SettingError
from rtstyle.frame import Frame
from rtstyle.live import LiveSettings, Outputs
from rtstyle.mask.file import FileMask, feathered
from rtstyle.mask.mix import Mixer, halved, mix_rgb
from rtstyle.render import segments
from rtstyle.style import Style
from rtstyle.video.samples import turned, turned_back

WIDTH, HEIGHT, FRAMES = 128, 96, 20
F32 = EngineSettings(backend="openvino", precision="f32", stroke_size=1.0)
EXACT = EncoderSettings(codec="ffv1")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "segment_frames", lambda size: 6)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    pictures = [moving_bar(WIDTH, HEIGHT, number) for number in range(FRAMES)]
    return make_clip(path, pictures, width=WIDTH, height=HEIGHT, times=range(FRAMES), options=LOSSLESS)


def left_half(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """An image that is white left of the middle and black right of it."""
    image = np.zeros((height, width), np.uint8)
    image[:, : width // 2] = 255
    cv2.imwrite(str(path), image)
    return path


def mask_clip(path: Path, levels: list[int], *, rate: int = 25, **more) -> Path:
    """A video of flat gray frames, limited range."""
    grey = [round(16 + level * 219 / 255) for level in levels]
    pictures = [(np.full((48, 64), g, np.uint8), *(np.full((24, 32), 128, np.uint8),) * 2) for g in grey]
    settings = {"time_base": Fraction(1, rate), "rate": Fraction(rate), "options": LOSSLESS} | more
    return make_clip(path, pictures, width=64, height=48, times=range(len(levels)), **settings)


def render(
    clip: Path, target: Path, mask: Path | None, style: str | Style = "sketch", **options
) -> list[tuple[np.ndarray, ...]]:
    settings = RenderOptions(mask=MaskSettings(source=mask, feather=0), overwrite=True, **options)
    stylize_video(clip, target, style=style, engine=F32, encoder=EXACT, options=settings)
    return look(target).pictures


# -- mixing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [Size(128, 96), Size(67, 35)])
def test_black_is_the_source_white_the_style_and_gray_between(size):
    rng = np.random.default_rng(1)
    source, styled = (Frame.from_rgb(rng.integers(0, 256, (size.height, size.width, 3), np.uint8)) for _ in range(2))
    mask = rng.integers(0, 256, (size.height, size.width), np.uint8)
    mask[:, : size.width // 4 * 2], mask[: size.height // 4 * 2] = 0, 255
    mixed = Mixer().mix(source, styled, mask)
    chroma = halved(mask)
    masks = (mask, chroma, chroma)
    for before, after, got, weights in zip(source.planes, styled.planes, mixed.planes, masks, strict=True):
        assert {0, 255} <= {*np.unique(weights).tolist()}
        assert np.array_equal(got[weights == 0], before[weights == 0])
        assert np.array_equal(got[weights == 255], after[weights == 255])
        wanted = before + (after.astype(float) - before) * weights / 255
        assert np.abs(got - wanted).max() <= 1.5  # 128 steps of weight, and rounding
    assert Mixer().mix(source, styled, None) is styled


def test_an_image_is_mixed_in_rgb():
    rng = np.random.default_rng(2)
    source, styled = rng.integers(0, 256, (2, 20, 31, 3), np.uint8)
    mask = np.zeros((20, 31), np.uint8)
    mask[5:] = 255
    mixed = mix_rgb(source, styled, mask)
    assert np.array_equal(mixed[:5], source[:5])
    assert np.array_equal(mixed[5:], styled[5:])


def test_a_feather_lies_inside_of_what_is_white():
    mask = np.zeros((60, 80), np.uint8)
    mask[20:, 30:] = 255
    soft = feathered(mask, 10)
    assert not soft[mask == 0].any()
    assert (soft[40:, 50:] == 255).all()
    row = soft[50].astype(int)
    assert (np.diff(row) >= 0).all()
    assert ((row > 0) & (row < 255)).sum() == 10
    assert np.array_equal(feathered(mask, 0), mask)
    assert (feathered(np.full((60, 80), 90, np.uint8), 10) == 90).all()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
def test_every_backend_leaves_what_is_black(backend, tmp_path, clip):
    pytest.importorskip(backend)
    with VideoReader(clip) as reader, open_engine("sketch", reader.size, reader.color, backend=backend) as engine:
        frame = next(iter(reader))
        engine.submit(frame)
        styled = engine.next()
    mask = FileMask(left_half(tmp_path / "mask.png"), frame.size, feather=0).at(frame, Fraction(0))
    mixed = Mixer().mix(frame, styled, mask)
    for before, after, got in zip(frame.planes, styled.planes, mixed.planes, strict=True):
        half = before.shape[1] // 2
        assert np.array_equal(got[:, half:], before[:, half:])
        assert np.array_equal(got[:, :half], after[:, :half])
        assert not np.array_equal(got[:, :half], before[:, :half])


# -- masks from files ------------------------------------------------------------------------------


def test_a_mask_of_another_size_is_scaled(tmp_path):
    for size in ((1280, 720), (16, 8)):
        mask = FileMask(left_half(tmp_path / "m.png", *size), Size(WIDTH, HEIGHT), feather=0).at(None, Fraction(0))
        assert mask.shape == (HEIGHT, WIDTH)
        assert (mask[:, :56] == 255).all()
        assert not mask[:, 72:].any()


def test_a_mask_may_be_colored_transparent_of_16_bits_or_turned_by_exif(tmp_path):
    rgb = np.zeros((8, 16, 3), np.uint8)
    rgb[:, :8] = (0, 0, 255)  # BGR red
    cv2.imwrite(str(tmp_path / "red.png"), rgb)
    alpha = np.full((8, 16, 4), 255, np.uint8)
    alpha[:, 8:, 3] = 0
    cv2.imwrite(str(tmp_path / "alpha.png"), alpha)
    deep = np.zeros((8, 16), np.uint16)
    deep[:, :8] = 65535
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    values = {}
    for name in ("red", "alpha", "deep"):
        mask = FileMask(tmp_path / f"{name}.png", Size(16, 8), feather=0).at(None, Fraction(0))
        values[name] = sorted({int(v) for v in np.unique(mask)}), mask[0, 0], mask[0, 15]
    assert values["red"][0] == [0, 76]  # its luma
    assert values["alpha"] == ([0, 255], 255, 0)
    assert values["deep"] == ([0, 255], 255, 0)


def test_frames_of_a_mask_are_shown_by_their_times(tmp_path):
    path = mask_clip(tmp_path / "mask.mkv", [0, 50, 100, 150, 200, 255], rate=10)
    mask = FileMask(path, Size(32, 16), feather=0)

    def level(time: str) -> int:
        plane = mask.at(None, Fraction(time))
        assert len(np.unique(plane)) == 1
        return int(plane[0, 0])

    seen = [level(time) for time in ("0", "0.04", "0.099", "0.1", "0.25", "0.5", "9", "0.3", "0.2", "0")]
    wanted = [0, 0, 50, 50, 100, 255, 255, 150, 100, 0]  # 0.099: within the rounding of containers
    assert np.abs(np.array(seen) - wanted).max() <= 2
    assert seen[0] == seen[-1] == 0  # exactly: what limited range calls black
    assert seen[5] == 255
    assert mask.at(None, Fraction(0)) is mask.at(None, Fraction("0.01"))
    mask.close()


def test_a_long_mask_is_entered_in_the_middle(tmp_path):
    levels = [20 * (number % 12) for number in range(400)]
    path = mask_clip(tmp_path / "mask.mkv", levels, rate=5)
    whole, entered = FileMask(path, Size(32, 16), feather=0), FileMask(path, Size(32, 16), feather=0)
    times = [Fraction(number, 5) for number in range(400)]
    everything = [int(whole.at(None, time)[0, 0]) for time in times]
    assert max(abs(a - b) for a, b in zip(everything, levels, strict=True)) <= 2
    for number in (150, 151, 390, 399, 40, 300, 0):
        assert int(entered.at(None, times[number])[0, 0]) == everything[number]


def test_a_mask_lies_as_players_show_the_source(tmp_path):
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    mirrored = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for matrix in (quarter, mirrored):
        assert np.array_equal(turned_back(turned(plane, matrix), matrix), plane)
    clip = make_clip(
        tmp_path / "turned.mp4",
        [moving_bar(WIDTH, HEIGHT, number) for number in range(4)],
        width=WIDTH, height=HEIGHT, times=range(4), options=LOSSLESS, rotation=90,
    )  # fmt: skip
    mask = left_half(tmp_path / "mask.png", HEIGHT, WIDTH)
    stored, upright = (
        stylize_video(
            clip, tmp_path / name, engine=F32, encoder=encoder,
            options=RenderOptions(mask=MaskSettings(source=mask, feather=0), follow="off"),
        )
        for name, encoder in (("out.mp4", EncoderSettings(codec="h264", crf=0)), ("out.y4m", EncoderSettings()))
    )  # fmt: skip
    with VideoReader(clip) as before, VideoReader(stored.output) as after:
        assert before.rotation == after.rotation == 90
        before.turn_upright(), after.turn_upright()
        pairs = list(zip(before, after, strict=True))
    shown = look(Path(upright.output)).pictures
    for (source, result), turned_first in zip(pairs, shown, strict=True):
        half = HEIGHT // 2
        assert np.array_equal(result.planes.y[:, half:], source.planes.y[:, half:])
        assert not np.array_equal(result.planes.y[:, :half], source.planes.y[:, :half])
        assert np.array_equal(turned_first[0][:, half:], source.planes.y[:, half:])
        assert not np.array_equal(turned_first[0][:, :half], source.planes.y[:, :half])


# -- renders ---------------------------------------------------------------------------------------


def test_a_video_keeps_the_source_where_the_mask_is_black(clip, tmp_path):
    plain = render(clip, tmp_path / "plain.mkv", None)
    mixed = render(clip, tmp_path / "mixed.mkv", left_half(tmp_path / "mask.png"))
    for source, styled, got in zip(look(clip).pictures, plain, mixed, strict=True):
        for before, after, now in zip(source, styled, got, strict=True):
            half = now.shape[1] // 2
            assert np.array_equal(now[:, half:], before[:, half:])
            assert np.array_equal(now[:, :half], after[:, :half])


def test_a_part_of_a_video_gets_its_part_of_the_mask(clip, tmp_path, random_style):
    mask = mask_clip(tmp_path / "mask.mkv", [round(255 * number / (FRAMES - 1)) for number in range(FRAMES)])
    still = {"follow": "off", "style": random_style}  # what a steered canvas has seen before belongs to a frame as well
    whole = render(clip, tmp_path / "whole.mkv", mask, **still)
    part = render(clip, tmp_path / "part.mkv", mask, **still, start=Fraction(8, 25), end=Fraction(14, 25))
    assert len(part) == 6
    for got, wanted in zip(part, whole[8:14], strict=True):
        assert all(map(np.array_equal, got, wanted))
    assert not np.array_equal(whole[0][0], whole[19][0])


def test_a_mask_that_ends_early_is_held_and_that_is_reported_in_one_line(clip, tmp_path, capsys):
    mask = mask_clip(tmp_path / "mask.mkv", [0, 0, 0, 0, 255])
    words = [str(clip), str(tmp_path / "out.mkv"), "--mask", str(mask), "--codec", "ffv1"]
    assert main(["video", *words, "--json", "--backend", "openvino"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [line for line in told["warnings"] if "mask" in line] == [
        "the mask ends at 0.2 s and the video at 0.8 s: the last frame of the mask is held"
    ]
    plain = render(clip, tmp_path / "plain.mkv", None)
    got, source = look(tmp_path / "out.mkv").pictures, look(clip).pictures
    assert np.array_equal(got[3][0], source[3][0])
    assert not np.array_equal(got[19][0], source[19][0])
    assert len(got) == len(plain)


def test_resume_and_workers_give_the_bytes_of_one_render(clip, tmp_path):
    mask = mask_clip(tmp_path / "mask.mkv", [round(255 * number / (FRAMES - 1)) for number in range(FRAMES)])

    def stylize(target: Path, progress=None, **more) -> bytes:
        options = RenderOptions(**{"mask": MaskSettings(source=mask, feather=0)} | more)
        encoder = EncoderSettings(preset="ultrafast")
        stylize_video(clip, target, engine=F32, encoder=encoder, options=options, progress=progress)
        return target.read_bytes()

    whole = stylize(tmp_path / "whole.mp4")
    assert stylize(tmp_path / "jobs.mp4", jobs=2) == whole

    def stop(done: int, total: int | None, words: str) -> None:
        if done == 14:
            raise KeyboardInterrupt

    target = tmp_path / "resumed.mp4"
    with pytest.raises(KeyboardInterrupt):
        stylize(target, progress=stop)
    for other in (MaskSettings(source=left_half(tmp_path / "other.png"), feather=0), MaskSettings()):
        with pytest.raises(SettingError, match=r"cannot resume .*: mask was"):
            stylize(target, resume=True, mask=other)
    assert stylize(target, resume=True) == whole


def test_frames_of_ones_own_and_images_are_masked(clip, tmp_path):
    mask = left_half(tmp_path / "mask.png")
    rgb = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    with Stylizer("sketch", engine=F32, mask=MaskSettings(source=mask, feather=0)) as stylizer:
        got = stylizer.stylize(rgb)
    assert np.array_equal(got[:, WIDTH // 2 :], rgb[:, WIDTH // 2 :])
    assert not np.array_equal(got[:, : WIDTH // 2], rgb[:, : WIDTH // 2])
    photo, target = tmp_path / "photo.png", tmp_path / "out.png"
    cv2.imwrite(str(photo), rgb[..., ::-1])
    words = ["image", str(photo), str(target), "--mask", str(mask), "--mask-feather", "0", "--backend", "openvino"]
    assert main([*words, "--quiet"]) == 0
    assert np.array_equal(cv2.imread(str(target))[:, WIDTH // 2 :, ::-1], rgb[:, WIDTH // 2 :])

    frames: list[Frame] = []

    class Sink:
        def write(self, frame: Frame) -> None:
            frames.append(frame)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    stylize_video(clip, Sink(), engine=F32, options=RenderOptions(mask=MaskSettings(source=mask, feather=0)))
    source = look(clip).pictures
    assert len(frames) == FRAMES
    assert all(np.array_equal(f.planes.y[:, 64:], s[0][:, 64:]) for f, s in zip(frames, source, strict=True))


def test_live_frames_are_masked(clip, tmp_path):
    record = tmp_path / "live.mkv"
    stylize_live(
        str(clip),
        engine=F32,
        outputs=Outputs(record=record, encoder=EXACT),
        live=LiveSettings(
            preview="none", denoise=False, mask=MaskSettings(source=left_half(tmp_path / "mask.png"), feather=0)
        ),
    )
    sources = [picture[0][:, 64:].tobytes() for picture in look(clip).pictures]
    shown = look(record).pictures
    assert shown
    assert all(picture[0][:, 64:].tobytes() in sources for picture in shown)
    assert all(picture[0].tobytes() not in [s[0].tobytes() for s in look(clip).pictures] for picture in shown)


# -- bad masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "no frame", "sound", "folder"])
def test_a_bad_mask_is_named_in_one_line_and_nothing_is_written(kind, clip, tmp_path, capsys):
    path = tmp_path / {"missing": "none.png", "text": "mask.png", "empty": "mask.mkv", "no frame": "mask.avi",
                       "sound": "mask.wav", "folder": "masks"}[kind]  # fmt: skip
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "no frame":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
            container.start_encoding()
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            track = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            for packet in track.encode(frame):
                container.mux(packet)
    target = tmp_path / "out.mkv"
    assert main(["video", str(clip), str(target), "--mask", str(path), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert f"cannot read the mask {path}" in said
    assert said.count("\n") == 1
    assert not target.exists()
    with pytest.raises(SettingError, match="wide"):
        MaskSettings(feather=-1)
