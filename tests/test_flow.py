"""The canvas map: it follows what moves, holds what stands still, and is bounded."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from rtstyle import Color, Frame, Planes, Size
from rtstyle.camera import mirrored
from rtstyle.canvas.carry import Found, Step, read_steps
from rtstyle.canvas.flow import FlowFollower, compared, reduced
from rtstyle.canvas.follower import SceneFollower
from rtstyle.canvas.layer import NoiseLayer, SteeredLayer
from rtstyle.canvas.map import STEPS, CanvasMap, grid_shape
from rtstyle.canvas.noise import CanvasCutter, tile
from rtstyle.canvas.steering import Steering
from rtstyle.canvas.strokes import Brush
from rtstyle.canvas.tracker import TrackerState
from rtstyle.frame import MARGIN, Packing
from rtstyle.live.latest import FlowPace

SIZE = Size(320, 240)


def textured(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A frame with detail at many scales, as photos have."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.float32)
    for octave in range(2, 7):
        cells = rng.standard_normal((height >> octave, width >> octave)).astype(np.float32)
        picture += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 2.0 ** (octave - 2)
    return np.clip(128 + 40 * picture / picture.std(), 0, 255).astype(np.uint8)


def frame_of(luma: np.ndarray, number: int = 0) -> Frame:
    height, width = luma.shape
    chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
    return Frame(Planes(np.ascontiguousarray(luma), chroma, chroma), number, Fraction(1, 25), Color())


def noisy(luma: np.ndarray, rng: np.random.Generator, sigma: float = 2.0) -> np.ndarray:
    return np.clip(luma + rng.normal(0, sigma, luma.shape), 0, 255).astype(np.uint8)


def zoomed(scene: np.ndarray, scale: float, size: Size = SIZE) -> np.ndarray:
    """The middle of a scene, ``scale`` times as large."""
    height, width = scene.shape
    x, y = width / 2 - size.width / 2 / scale, height / 2 - size.height / 2 / scale
    matrix = np.float32([[1 / scale, 0, x], [0, 1 / scale, y]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(scene, matrix, (size.width, size.height), flags=how)


def walking(step: int, behind: np.ndarray, person: np.ndarray) -> np.ndarray:
    """A person who walks to the right before a wall, 3 pixels a step."""
    view, (height, width) = behind.copy(), person.shape
    x = 60 + 3 * step
    view[-height:, x : x + width] = person
    return view


def displaced(frame: Frame, y: int, x: int) -> np.ndarray:
    """Where a pixel of a frame lies on the canvas, beyond its own place."""
    rigid = np.array(frame.canvas, np.float64)
    if frame.canvas_map is None:
        return rigid
    bent = frame.canvas_map
    return rigid + bent.grid[y // bent.pitch, x // bent.pitch]


def bent_by(x: float, y: float, size: Size = SIZE, pitch: int = 8) -> CanvasMap:
    grid = np.empty((*grid_shape((size.height, size.width), pitch), 2), np.float32)
    grid[:] = x, y
    return CanvasMap(pitch, grid)


def laid(layer, frame: Frame) -> np.ndarray:
    packing = Packing(frame.size)
    out = np.zeros((packing.rows, packing.columns, layer.channels), np.uint8)
    layer.lay(frame, out)
    return out


@pytest.fixture(scope="module")
def layers() -> dict:
    packing = Packing(SIZE)
    steering = Steering(Brush(directions=4, scales=(1.0,)))
    return {
        "noise": NoiseLayer(packing.rows, packing.columns),
        "steered": SteeredLayer(steering, None, SIZE, Color()),
    }


# -- the map below a frame


@pytest.mark.parametrize("kind", ["noise", "steered"])
@pytest.mark.parametrize("place", [(0, 0), (13, -7), (1021, 515)])
def test_a_map_without_displacement_changes_no_byte(layers, kind, place):
    frame = replace(frame_of(textured(320, 240)), canvas=place)
    assert np.array_equal(laid(layers[kind], frame), laid(layers[kind], replace(frame, canvas_map=bent_by(0, 0))))


@pytest.mark.parametrize("moved", [(3, -2), (-130, 41), (700, 700)])
def test_a_map_of_whole_pixels_shows_the_canvas_there(layers, moved):
    frame = frame_of(textured(320, 240))
    there = laid(layers["noise"], replace(frame, canvas=(5 + moved[0], 9 + moved[1])))
    bent = laid(layers["noise"], replace(frame, canvas=(5, 9), canvas_map=bent_by(*moved)))
    assert np.array_equal(bent, there)


def test_strokes_lie_where_the_map_says(layers):
    # One direction all over: then the offset and the map choose the same tile for every cell.
    stripes = np.broadcast_to((128 + 60 * np.sin(np.arange(240) / 3))[:, None], (240, 320)).astype(np.uint8)
    frame = frame_of(stripes)
    there = laid(layers["steered"], replace(frame, canvas=(24, 12)))
    bent = laid(layers["steered"], replace(frame, canvas=(4, 0), canvas_map=bent_by(20, 12)))
    inside = slice(4, -4)
    assert np.abs(bent[inside, inside, :36].astype(int) - there[inside, inside, :36]).mean() < 1


def test_strokes_are_in_pieces_and_not_stretched_where_the_map_has_a_step(layers):
    """Behind something that has moved away neighboring nodes lie far apart: strokes between them would be threads."""
    stripes = np.broadcast_to((128 + 60 * np.sin(np.arange(240) / 3))[:, None], (240, 320)).astype(np.uint8)
    frame, step = frame_of(stripes), bent_by(8, 4)
    step.grid[:, 20:] = 60, -36
    made = laid(layers["steered"], replace(frame, canvas_map=step))[:, :, :36].astype(int)
    sides = [
        laid(layers["steered"], replace(frame, canvas=(x, y)))[:, :, :36].astype(int) for x, y in ((8, 4), (60, -36))
    ]
    inside = slice(6, -6)
    left, right = (np.abs(made - side)[inside, inside].max(2) for side in sides)
    assert (np.minimum(left, right) == 0).mean() > 0.98
    assert (left[:, :20] == 0).mean() > 0.98
    assert (right[:, -20:] == 0).mean() > 0.98


def test_a_fade_keeps_the_contrast_of_its_ends(layers):
    frame, first, second = frame_of(textured(320, 240)), bent_by(5, 4), bent_by(100, 60)
    deviations = []
    for share in (0, 0.25, 0.5, 0.75, 0.999):
        faded = CanvasMap(first.pitch, first.grid, second.grid, share)
        deviations.append(laid(layers["noise"], replace(frame, canvas_map=faded)).std())
    assert max(deviations) < 1.1 * min(deviations)


@pytest.mark.parametrize("kind", ["noise", "steered"])
def test_a_fade_changes_nothing_where_nothing_is_deformed(layers, kind):
    frame, bent = frame_of(textured(320, 240)), bent_by(0, 0)
    bent.grid[:, -6:] = 20, 10
    faded = CanvasMap(bent.pitch, bent.grid, np.zeros_like(bent.grid), 0.5)
    plain, halfway = (laid(layers[kind], replace(frame, canvas_map=each)) for each in (None, faded))
    assert np.array_equal(plain[:, :-16], halfway[:, :-16])
    assert not np.array_equal(plain[:, -12:], halfway[:, -12:])


def test_what_is_not_deformed_is_the_same_however_much_of_the_frame_is(layers):
    """Where most of a frame is deformed, all of it is looked up pixel by pixel, and the rest must not change."""
    frame, little, much = frame_of(textured(320, 240)), bent_by(0, 0), bent_by(0, 0)
    little.grid[-1:, -1:], much.grid[1:, 3:] = (9, 4), (9, 4)
    plain, here, there = (laid(layers["steered"], replace(frame, canvas_map=each)) for each in (None, little, much))
    rows, columns = plain.shape[0] // 2, 4
    assert np.array_equal(plain[:rows, :columns], here[:rows, :columns])
    assert np.array_equal(plain[:rows, :columns], there[:rows, :columns])
    assert not np.array_equal(plain, there)


@pytest.mark.parametrize("size", [SIZE, Size(317, 241), Size(96, 97)])
def test_a_mirrored_map_shows_the_mirrored_places(size):
    rng = np.random.default_rng(3)
    coarse = rng.uniform(-4, 4, (4, 5, 2)).astype(np.float32)
    rows, columns = grid_shape((size.height, size.width), 8)
    bent = CanvasMap(8, np.asarray(cv2.resize(coarse, (columns, rows)), np.float32))

    def places(bent: CanvasMap) -> np.ndarray:
        packed = Packing(size)
        whole, period = (4 * packed.rows, 4 * packed.columns), 512
        (nodes,) = bent.nodes(whole, (4096, 4096), period)
        found = bent.places(nodes, whole, period)
        seen = np.dstack((found.x, found.y))[MARGIN + 8 :, MARGIN + 8 :][: size.height - 16, : size.width - 16] / STEPS
        y, x = np.mgrid[: seen.shape[0], : seen.shape[1]]
        beyond = seen - seen[:1, :1] - np.dstack((x, y))
        return (beyond + period / 2) % period - period / 2

    straight, mirror = places(bent), places(bent.mirrored(size.width))[:, ::-1]
    back = mirror - mirror[:1, :1]
    assert np.abs(-back[..., 0] - straight[..., 0]).max() < 0.4  # of 4: bilinear, between other nodes
    assert np.abs(back[..., 1] - straight[..., 1]).max() < 0.4


def test_a_mirrored_frame_takes_its_map_along():
    frame = replace(frame_of(textured(320, 240)), canvas=(3, 4), canvas_map=bent_by(5, 6))
    assert (mirrored(frame).canvas_map.grid == (-5, 6)).all()


def test_a_map_is_scaled_with_its_frame():
    bent = bent_by(6, -3).scaled(SIZE, Size(640, 480))
    assert bent.grid.shape[:2] == grid_shape((480, 640), bent.pitch)
    assert np.allclose(bent.grid, (12, -6))


# -- what it follows


def test_a_zoom_is_followed_everywhere():
    scene, follower = textured(1000, 800), SceneFollower(follow="flow")
    frames = [follower.follow(frame_of(zoomed(scene, 1.01**step), step)) for step in range(12)]
    # A place of the scene keeps its place on the canvas.
    for y, x in ((60, 60), (60, 250), (180, 90), (120, 280)):
        there = np.array((x - 160, y - 120)) * 1.01**8
        x2, y2 = np.rint(there + np.array((160, 120))).astype(int)
        if 8 < x2 < 312 and 8 < y2 < 232:
            before = np.array((x, y)) + displaced(frames[3], y, x)
            after = np.array((x2, y2)) + displaced(frames[11], y2, x2)
            assert np.abs(before - after).max() < 1.6


def test_who_walks_takes_strokes_along_and_the_wall_stays_exactly_where_it_is():
    behind, person, rng = textured(320, 240, 1), textured(80, 150, 2), np.random.default_rng(4)
    follower = SceneFollower(follow="flow")
    for step in range(20):
        frame = follower.follow(frame_of(noisy(walking(step, behind, person), rng), step))
        assert frame.canvas == (0, 0)
        if frame.canvas_map:
            grid, pitch = frame.canvas_map.grid, frame.canvas_map.pitch
            far = np.ones(grid.shape[:2], bool)
            far[(240 - 150 - 48) // pitch :, (60 - 48) // pitch : (60 + 3 * step + 80 + 48) // pitch + 1] = False
            assert (grid[far] == 0).all()
    moved = displaced(frame, 180, 60 + 3 * 19 + 40)
    assert moved == pytest.approx((-3 * 19, 0), abs=4)


@pytest.mark.parametrize("level", [0, 128, 255, None])
def test_noise_alone_deforms_nothing(level):
    rng, follower = np.random.default_rng(5), SceneFollower(follow="flow")
    scene = textured(320, 240) if level is None else np.full((240, 320), level, np.uint8)
    for step in range(10):
        assert follower.follow(frame_of(noisy(scene, rng, 4), step)).canvas_map is None


def test_a_pan_by_whole_pixels_deforms_nothing_where_it_is_followed():
    scene, rng, follower = textured(900, 500), np.random.default_rng(6), SceneFollower(follow="flow")
    for step in range(12):
        view = noisy(scene[40 + 2 * step : 280 + 2 * step, 30 + 3 * step : 350 + 3 * step], rng)
        frame = follower.follow(frame_of(view, step))
        assert frame.canvas == (3 * step, 2 * step)
        deformed = 0 if frame.canvas_map is None else np.abs(frame.canvas_map.grid[3:-3, 3:-3]).max()
        assert deformed < 0.5


def test_a_cut_begins_a_fresh_map():
    behind, person, follower = textured(320, 240, 1), textured(80, 150, 2), SceneFollower(follow="flow")
    for step in range(6):
        frame = follower.follow(frame_of(walking(step, behind, person), step))
    assert frame.canvas_map is not None
    assert follower.follow(frame_of(255 - textured(320, 240, 9), 6)).canvas_map is None


def test_what_was_found_gives_the_same_maps_where_no_frame_is_looked_at():
    behind, person, rng = textured(321, 243, 1), textured(80, 150, 2), np.random.default_rng(4)
    views = [walking(step, behind[:242, :320], person) for step in range(6)]
    views += [views[-1], 255 - textured(320, 242, 9)]  # nothing changes; a cut
    views += [zoomed(textured(1000, 800), 1.03**step, Size(320, 242)) for step in range(5)]
    frames = [frame_of(view if number == 6 else noisy(view, rng), number) for number, view in enumerate(views)]
    frames[6] = frame_of(frames[5].planes.y, 6)
    first, second = SceneFollower(steered=True), SceneFollower(steered=True)
    wanted, found = [], b""
    for frame in frames:
        wanted.append(first.follow(frame))
        found += first.step.dump()
    steps = list(read_steps(found, (242, 320)))
    assert {step.found for step in steps} == {*Found} - {Found.OFFSET}
    assert len(found) < sum(frame.canvas_map.grid.nbytes for frame in wanted if frame.canvas_map)
    for frame, step, like in zip(frames, steps, wanted, strict=True):
        bent = second.follow(frame, like.canvas, step)
        assert (bent.canvas_map is None) == (like.canvas_map is None)
        if bent.canvas_map:
            assert bent.canvas_map.grid.tobytes() == like.canvas_map.grid.tobytes()
            assert bent.canvas_map.share == like.canvas_map.share
        assert bent.seen.cos.tobytes() == like.seen.cos.tobytes()


def test_frames_that_were_compared_elsewhere_give_the_same_maps():
    scene, first, second = textured(1000, 800), SceneFollower(follow="flow"), SceneFollower(follow="flow")
    before = None
    for step in range(6):
        frame = frame_of(zoomed(scene, 1.02**step), step)
        wanted, small = first.follow(frame), reduced(frame.planes.y)
        known = compared(before, small, (0.0, 0.0), frame.planes.y.shape) if step else None
        bent, before = second.follow(frame, wanted.canvas, known), small
        assert (bent.canvas_map is None) == (step == 0)
        assert step == 0 or bent.canvas_map.grid.tobytes() == wanted.canvas_map.grid.tobytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x09", "not a valid Found"),
        (bytes([Found.MOTION]), "cut off"),
        (bytes([Found.MOTION, 1]) + bytes(60), "buffer"),
    ],
)
def test_what_was_found_is_refused_where_it_is_damaged(data, reason):
    assert [step.found for step in read_steps(Step(Found.CUT).dump(), (240, 320))] == [Found.CUT]
    with pytest.raises(ValueError, match=reason):
        list(read_steps(data, (240, 320)))


def test_a_flash_moves_nothing():
    scene, follower = (textured(320, 240, 1) // 2 + 20).astype(np.uint8), SceneFollower(follow="flow")
    for step in range(8):
        view = scene + 60 if step == 4 else scene
        assert follower.follow(frame_of(view, step)).canvas_map is None


def test_a_fade_to_another_scene_moves_little():
    first, second, follower = textured(320, 240, 1), textured(320, 240, 2), SceneFollower(follow="flow")
    for step in range(12):
        view = (first * (1 - step / 11) + second * (step / 11)).astype(np.uint8)
        frame = follower.follow(frame_of(view, step))
    assert frame.canvas_map is None or (np.abs(frame.canvas_map.grid).max(-1) > 4).mean() < 0.1


def test_text_before_a_scene_that_moves_stays():
    scene, follower = textured(900, 500), SceneFollower(follow="flow")
    for step in range(10):
        view = scene[60:300, 40 + 4 * step : 360 + 4 * step].copy()
        cv2.putText(view, "HELLO", (40, 200), cv2.FONT_HERSHEY_SIMPLEX, 2.6, 255, 16)
        frame = follower.follow(frame_of(view, step))
    # The tracker's offset carries the scene along, so the text's part of the map takes it back.
    letter = displaced(frame, 170, 85)
    assert np.abs(letter).max() < 18  # of 36: the first frames do not tell the two apart
    assert displaced(frame, 40, 160) == pytest.approx((36, 0), abs=2)


def test_a_long_zoom_neither_stretches_strokes_without_end_nor_jumps():
    scene, follower = textured(1600, 1200), FlowFollower()
    worst, fades, before = 0.0, 0, None
    for step in range(110):  # three times as large
        bent = follower.follow(zoomed(scene, 1.01**step), (0.0, 0.0))
        if bent is None:
            continue
        shown = bent.grid if bent.fresh is None or bent.share < 0.5 else bent.fresh
        middle = shown[8:-8, 8:-8]
        worst = max(worst, float(np.median(np.abs(np.diff(middle[..., 0], axis=1)))) / bent.pitch)
        fades += bent.fresh is not None and (before is None or before.fresh is None)
        before = bent
    assert fades >= 2
    assert worst < 0.5  # strokes of 1 / (1 - 0.5) times their width at most


def test_what_lies_beyond_the_repeated_tile_is_wrapped_to_the_same_place():
    rows, columns, pitch = 80, 200, 16
    grid = np.zeros((*grid_shape((4 * rows, 4 * columns), pitch), 2), np.float32)
    grid[2:, 2:] = -300
    out = np.empty((rows, columns, 16), np.uint8)
    CanvasCutter(rows, columns).cut((70, 70), out, CanvasMap(pitch, grid))
    found = out.reshape(rows, columns, 4, 4).transpose(0, 2, 1, 3).reshape(4 * rows, 4 * columns)[64:300, 64:780]
    y, x = ((np.arange(first, last) + 70 - 300) % 512 for first, last in ((64, 300), (64, 780)))
    assert np.array_equal(found, tile()[np.ix_(y, x)])


def test_what_turns_before_a_wall_is_torn_and_not_stretched():
    """The middle of a head that turns moves far, its rim does not: strokes between them would be pulled to threads."""
    behind, face, follower = textured(320, 240, 1), textured(600, 240, 2), FlowFollower()
    across, down = np.meshgrid(np.arange(160) - 80.0, np.arange(240))
    shares = []
    for step in range(30):
        view = behind.copy()
        # A cylinder of radius 80 that turns by two degrees a frame.
        place = 80 * (np.arcsin(np.clip(across / 80, -0.999, 0.999)) + np.radians(2) * step) + 150
        turned = cv2.remap(face, place.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)
        view[:, 80:240] = turned
        bent = follower.follow(view, (0.0, 0.0))
        if bent:
            slopes = np.abs(np.diff(bent.grid[..., 0], axis=1)) / bent.pitch
            shares.append(((slopes > 0.5) & (slopes < 2)).mean())  # neither nearly level nor a tear
    assert np.abs(bent.grid[..., 0]).max() > 40
    assert np.mean(shares[10:]) < 0.12


def test_giving_flow_up_eases_back_to_the_camera():
    behind, person, follower = textured(320, 240, 1), textured(80, 150, 2), SceneFollower(follow="flow")
    for step in range(6):
        frame = follower.follow(frame_of(walking(step, behind, person), step))
    assert frame.canvas_map is not None
    follower.flowing = False
    shares = []
    for step in range(6, 60):  # a fade that had begun is finished first
        frame = follower.follow(frame_of(walking(step, behind, person), step))
        shares.append(frame.canvas_map.share if frame.canvas_map else 1.0)
    assert frame.canvas_map is None
    assert np.diff(shares).max() < 0.1


@pytest.mark.parametrize(
    ("follow", "canvas"), [("off", (0, 0)), ("camera", (12, 0)), ("flow", (12, 0)), ("auto", (12, 0))]
)
def test_what_is_followed_is_what_was_asked_for(follow, canvas):
    scene, follower = textured(900, 500), SceneFollower(follow=follow)
    for step in range(5):
        frame = follower.follow(frame_of(scene[40:280, 3 * step : 320 + 3 * step], step))
    assert frame.canvas == canvas
    for step in range(5, 9):
        frame = follower.follow(frame_of(zoomed(scene, 1.02**step), step))
    assert (frame.canvas_map is not None) == (follow in ("auto", "flow"))


# -- state


def test_a_follower_continues_from_its_state_to_the_same_bytes(tmp_path):
    behind, person, rng = textured(320, 240, 1), textured(80, 150, 2), np.random.default_rng(7)
    views = [noisy(walking(step, behind, person), rng) for step in range(14)]
    whole = SceneFollower(follow="flow")
    expected = [whole.follow(frame_of(view, step)) for step, view in enumerate(views)]
    first, second = SceneFollower(follow="flow"), SceneFollower(follow="flow")
    for step, view in enumerate(views[:7]):
        first.follow(frame_of(view, step))
    first.state().save(tmp_path / "state.npz")
    second.restore(TrackerState.load(tmp_path / "state.npz"))
    for step, view in enumerate(views[7:], 7):
        found = second.follow(frame_of(view, step))
        assert found.canvas == expected[step].canvas
        assert np.array_equal(found.canvas_map.grid, expected[step].canvas_map.grid)
        assert np.array_equal(found.seen.cos, expected[step].seen.cos)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid", np.zeros((30, 40), np.float32)),
        ("grid", np.full((30, 40, 2), np.nan, np.float32)),
        ("pitch", np.array(3.0)),
        ("pitch", np.array(6.0)),
        ("share", np.array(1.5)),
        ("moves", np.zeros((1, 1), np.float32)),
        ("noise", np.array(np.inf)),
        ("other", np.zeros(3)),
    ],
)
def test_a_damaged_state_is_refused(tmp_path, name, value):
    follower = SceneFollower(follow="flow")
    for step in range(5):
        follower.follow(frame_of(walking(step, textured(320, 240, 1), textured(80, 150, 2)), step))
    state = follower.state()
    replace(state, arrays={**state.arrays, f"flow_{name}": value}).save(tmp_path / "state.npz")
    with pytest.raises(ValueError, match=r"flow|map"):
        TrackerState.load(tmp_path / "state.npz")


# -- live


def test_flow_is_given_up_while_frames_are_dropped_and_tried_again_ever_later():
    pace, now, tries = FlowPace(), 0.0, []
    flowing = True
    for _ in range(25 * 200):
        now += 0.04
        before, flowing = flowing, pace.add(dropped=flowing, now=now)  # dropped as long as it flows
        if flowing and not before:
            tries.append(now)
    assert len(tries) >= 3
    assert np.diff(tries)[1] > 1.8 * np.diff(tries)[0]


def test_a_frame_dropped_now_and_then_gives_nothing_up():
    pace = FlowPace()
    assert all(pace.add(dropped=number % 20 == 0, now=number / 25) for number in range(200))
