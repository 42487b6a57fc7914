"""The ring on a fake device that does everything late and out of step (see fake_device.py).

That it gives the right frames is tested with all other engines, in test_engines.py.
"""

import gc
import random
import threading
import time
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from fake_device import FakeDevice, PlanarOnCpu
from test_engines import (  # noqa: F401  (one_thread_where_torch_is is a fixture)
    differences,
    frame_of,
    one_thread_where_torch_is,
    random_planes,
    ring_on_fake_device,
    same,
    scene,
    torch_ring_on_fake_device,
)

from rtstyle import graph
from rtstyle.backends import Controls, open_engine
from rtstyle.backends.accuracy import BOUNDS, difference, fixed_frames
from rtstyle.backends.ring import OutputBuffers, RingEngine
from rtstyle.errors import DeviceError
from rtstyle.frame import Color, Planes, Size, VideoFormat, as_i420
from rtstyle.style import list_styles, load_style
from rtstyle.video.encoder import VideoEncoder
from rtstyle.video.formats import EncoderSettings, choose_encoding

pytest.importorskip("onnxruntime")

SIZE = Size(64, 48)


class Inverter:
    """A network without a style: what comes out is 255 minus what went in."""

    layout = "i420"

    def __init__(self, device: FakeDevice, size: Size, seconds: float = 0.0) -> None:
        self._device, self._shape, self._seconds = device, graph.planar_shapes(size)[graph.SOURCE], seconds
        self.closed = False

    def prepare(self, addresses, stream):
        from fake_device import _at

        count = int(np.prod(self._shape))
        source, target = _at(addresses[graph.SOURCE], count), _at(addresses[graph.STYLIZED], count)

        def work() -> None:
            time.sleep(self._seconds)
            target[:] = 255 - source

        return lambda: self._device.enqueue("run", stream, work)

    def close(self) -> None:
        self.closed = True


def inverting_ring(device: FakeDevice, size: Size = SIZE, slots: int = 3, seconds: float = 0.0) -> RingEngine:
    return RingEngine(
        backend="tensorrt",
        precision="f16",
        device=device,
        network=Inverter(device, size, seconds),
        size=size,
        color=Color(),
        slots=slots,
    )


def inverted(planes: Planes) -> Planes:
    return Planes(*(255 - plane for plane in planes))


# -- order and overlap -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_frames_come_out_in_order_and_unmixed_however_late_the_device_is(slots, seed):
    rng = random.Random(seed)
    frames = [frame_of(random_planes(SIZE, number), number, canvas=(number, 0)) for number in range(20)]
    controls = [Controls(rng.choice([0, 0.5, 1]), 1) for _ in frames]
    with inverting_ring(FakeDevice(slowest=0.003, seed=seed), slots=slots) as engine:
        results, waiting = [], 0
        for frame, control in zip(frames, controls, strict=True):
            while waiting == engine.in_flight or (waiting and rng.random() < 0.3):
                results.append(engine.next())
                waiting -= 1
            engine.submit(frame, control)
            waiting += 1
        results += [engine.next() for _ in range(waiting)]
    assert [frame.pts for frame in results] == list(range(20))
    assert all(same(result.planes, inverted(frame.planes)) for result, frame in zip(results, frames, strict=True))


def test_while_one_frame_is_computed_others_are_copied():
    device = FakeDevice(slowest=0)
    with inverting_ring(device, seconds=0.02) as engine:
        device.log.clear()
        list(engine.stylize([frame_of(random_planes(SIZE, n), n) for n in range(9)]))
        log = list(device.log)
    # The second frame's copy in is done before the first frame's network is.
    streams = [stream for what, stream in log if what == "run"]
    assert len(set(streams)) == 3
    first_run = log.index(("run", streams[0]))
    assert ("in", streams[1]) in log[:first_run]
    assert ("in", streams[2]) in log[:first_run]


def test_a_ring_is_faster_than_one_frame_after_the_other():
    """Each network run takes 10 ms in its stream; three streams of the fake device run side by side."""
    seconds = {}
    for slots in (1, 3):
        with inverting_ring(FakeDevice(slowest=0), slots=slots, seconds=0.01) as engine:
            frames = [frame_of(random_planes(SIZE, n), n) for n in range(30)]
            begun = time.perf_counter()
            assert len(list(engine.stylize(frames))) == 30
            seconds[slots] = time.perf_counter() - begun
    assert seconds[3] < 0.6 * seconds[1]


def test_copies_are_only_made_of_what_is_new():
    device = FakeDevice(slowest=0)
    frame = frame_of(random_planes(SIZE), canvas=(3, 4))
    moved = frame_of(random_planes(SIZE), canvas=(9, 4))
    with inverting_ring(device, slots=1) as engine:
        copies = []
        for each, controls in ((frame, Controls()), (frame, Controls()), (moved, Controls()), (moved, Controls(0.5))):
            device.log.clear()
            engine.submit(each, controls)
            engine.next()
            copies.append([what for what, _ in device.log].count("in"))
    # Frame, canvas and strength; frame; frame and canvas; frame and strength.
    assert copies == [3, 1, 2, 2]


def test_a_slot_that_is_used_again_has_the_canvas_and_the_strength_of_its_new_frame(random_style):
    frame = frame_of(scene(SIZE))
    cases = [((0, 0), Controls()), ((40, 9), Controls()), ((40, 9), Controls(0.5, 0)), ((0, 0), Controls())]
    with ring_on_fake_device(random_style, SIZE, "latency") as engine:
        again = [next(engine.stylize([replace(frame, canvas=at)], how)).planes for at, how in cases]
    for (at, how), planes in zip(cases, again, strict=True):
        with ring_on_fake_device(random_style, SIZE, "latency") as fresh:
            assert same(next(fresh.stylize([replace(frame, canvas=at)], how)).planes, planes)
    assert not same(again[0], again[1])
    assert not same(again[1], again[2])


# -- who owns what ---------------------------------------------------------------------------------------


def test_planes_of_the_caller_may_be_written_while_the_device_has_not_begun():
    with inverting_ring(FakeDevice(slowest=0.02)) as engine:
        planes = random_planes(SIZE)
        expected = inverted(Planes(*(plane.copy() for plane in planes)))
        engine.submit(frame_of(planes))
        for plane in planes:
            plane[:] = 7
        assert same(engine.next().planes, expected)


def test_a_result_that_is_kept_is_never_written_again():
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(40)]
    with inverting_ring(FakeDevice(slowest=0.001)) as engine:
        kept = [frame.planes for frame in engine.stylize(frames)]
        assert all(same(planes, inverted(frame.planes)) for planes, frame in zip(kept, frames, strict=True))
    # Also not when the engine is gone.
    assert all(same(planes, inverted(frame.planes)) for planes, frame in zip(kept, frames, strict=True))


def test_buffers_that_came_back_are_used_again_and_no_more_are_made():
    device = FakeDevice(slowest=0)
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(50)]
    with inverting_ring(device) as engine:
        for _ in engine.stylize(frames[:5]):
            pass
        before = device.pinned
        for _ in engine.stylize(frames):
            pass
        assert device.pinned == before


def test_one_plane_keeps_its_buffer():
    device = FakeDevice(slowest=0)
    with inverting_ring(device) as engine:
        engine.submit(frame_of(random_planes(SIZE, 1)))
        v = engine.next().planes.v[3:5]
        expected = v.copy()
        for _ in engine.stylize(frame_of(random_planes(SIZE, n), n) for n in range(20)):
            pass
        assert np.array_equal(v, expected)


def test_a_caller_that_keeps_very_many_gets_ordinary_copies(monkeypatch):
    monkeypatch.setattr("rtstyle.backends.ring._LENT", 8 * SIZE.width * SIZE.height * 3 // 2)
    device = FakeDevice(slowest=0)
    frames = [frame_of(random_planes(SIZE, number), number) for number in range(40)]
    with inverting_ring(device) as engine:
        kept = [frame.planes for frame in engine.stylize(frames)]
        assert device.pinned <= 3 + 8 + 4  # inputs of the slots, what callers may hold, and what is in flight
    assert all(same(planes, inverted(frame.planes)) for planes, frame in zip(kept, frames, strict=True))


def test_an_encoder_with_threads_reads_the_outputs_without_a_copy():
    """Frame threads hold several frames at once; lossless, so that one level of difference shows."""
    size, count = Size(640, 480), 24
    device = FakeDevice(slowest=0.001)
    frames = [frame_of(scene(size, number), number) for number in range(count)]
    context = av.CodecContext.create("ffvhuff", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_type, context.thread_count = "FRAME", 6
    context.width, context.height, context.pix_fmt, context.time_base = 640, 480, "yuv420p", Fraction(1, 25)
    packets, most = [], 0
    with inverting_ring(device, size) as engine:
        for frame in engine.stylize(frames):
            i420 = as_i420(frame.planes)
            assert i420 is not None
            picture = av.VideoFrame.from_numpy_buffer(i420, format="yuv420p")
            picture.pts, picture.time_base = frame.pts, Fraction(1, 25)
            del frame, i420
            packets += context.encode(picture)
            del picture
            most = max(most, engine._outputs.in_use)
        packets += context.encode(None)
        assert most > engine.in_flight, "the encoder copied, so it proves nothing"
        gc.collect()
        assert engine._outputs.in_use == 0
    decoder = av.CodecContext.create("ffvhuff", "r")
    decoder.extradata = context.extradata
    decoder.width, decoder.height, decoder.pix_fmt = 640, 480, "yuv420p"
    decoded = [picture for packet in packets for picture in decoder.decode(packet)] + list(decoder.decode(None))
    assert len(decoded) == count
    for picture, frame in zip(decoded, frames, strict=True):
        expected = np.concatenate([plane.ravel() for plane in inverted(frame.planes)])
        assert np.array_equal(picture.to_ndarray().ravel(), expected)


def test_the_writer_keeps_views_of_the_ring_and_copies_the_rest(tmp_path):
    size = Size(640, 480)
    frames = [frame_of(scene(size, number), number) for number in range(6)]
    encoding = choose_encoding("a.mkv", EncoderSettings(codec="ffv1"), size)
    with av.open(str(tmp_path / "a.mkv"), "w") as container, inverting_ring(FakeDevice(slowest=0.001), size) as engine:
        encoder = VideoEncoder(container, encoding, VideoFormat(size, Color(), frames[0].time_base, Fraction(25)))
        for frame in engine.stylize(frames):
            assert not frame.planes.y.flags.writeable
            (in_use, *_), (copied, *_) = (
                [plane.buffer_ptr for plane in encoder._av_frame(shown).planes]
                for shown in (frame, frame.with_planes(Planes(*(plane.copy() for plane in frame.planes))))
            )
            assert in_use == frame.planes.y.ctypes.data
            assert copied != frame.planes.y.ctypes.data
            container.mux(encoder.encode(frame))
        container.mux(encoder.flush())
    with av.open(str(tmp_path / "a.mkv")) as container:
        for picture, frame in zip(container.decode(video=0), frames, strict=True):
            expected = np.concatenate([plane.ravel() for plane in inverted(frame.planes)])
            assert np.array_equal(picture.to_ndarray().ravel(), expected)


def test_planes_that_lie_apart_are_no_i420():
    planes = random_planes(SIZE)
    assert as_i420(planes) is None
    flat = np.arange(64 * 72, dtype=np.uint8).reshape(72, 64)
    u, v = flat[48:].reshape(2, 24, 32)
    joined = as_i420(Planes(flat[:48], u, v))
    assert joined is not None
    assert np.shares_memory(joined, flat)
    assert np.array_equal(joined, flat)
    assert as_i420(Planes(flat[:48], v, u)) is None
    assert as_i420(Planes(flat[:48, :62], u[:, :31], v[:, :31])) is None
    odd = random_planes(Size(33, 17))
    assert as_i420(odd) is None


def push_through(engine: RingEngine, frames) -> None:
    """Submit and take in turns, with what comes out kept: buffers for outputs are made as they are needed."""
    kept = []
    for frame in frames:
        engine.submit(frame)
        kept.append(engine.next())


# -- errors and the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["activate", "copy_in", "copy_out", "record", "wait", "allocate_host"])
def test_a_device_that_fails_raises_and_the_ring_can_be_closed(call):
    device = FakeDevice()
    engine = inverting_ring(device)
    with engine:
        engine.submit(frame_of(random_planes(SIZE, 0)))
        device.fail = call
        frames = [frame_of(random_planes(SIZE, number)) for number in range(1, 9)]
        with pytest.raises(DeviceError, match=f"fails in {call}"):
            push_through(engine, frames)
    device.fail = None
    gc.collect()
    assert device.open == 0
    assert engine._network.closed


@pytest.mark.parametrize("call", ["copy_in", "copy_out", "record"])
def test_after_an_error_that_passes_the_next_frame_is_right(call):
    device = FakeDevice()
    with inverting_ring(device, slots=2) as engine:
        device.fail = call
        with pytest.raises(DeviceError):
            engine.submit(frame_of(random_planes(SIZE, 0), 0, canvas=(5, 5)), Controls(0.5, 0.5))
        device.fail = None
        frames = [frame_of(random_planes(SIZE, number), number, canvas=(5, 5)) for number in range(6)]
        results = list(engine.stylize(frames, Controls(0.5, 0.5)))
    assert all(same(a.planes, inverted(b.planes)) for a, b in zip(results, frames, strict=True))


@pytest.mark.parametrize("call", ["allocate", "allocate_host", "open_stream", "open_event", "copy_in"])
def test_a_ring_that_cannot_be_opened_leaves_nothing(call):
    device = FakeDevice()
    device.fail = call
    with pytest.raises(DeviceError):
        inverting_ring(device)
    assert device.open == 0


def test_a_network_that_cannot_be_prepared_leaves_nothing():
    device = FakeDevice()

    class Broken(Inverter):
        def prepare(self, addresses, stream):
            raise DeviceError("out of memory")

    network = Broken(device, SIZE)
    with pytest.raises(DeviceError, match="out of memory"):
        RingEngine(
            backend="tensorrt", precision="f16", device=device, network=network, size=SIZE, color=Color()
        )  # fmt: skip
    assert device.open == 0
    assert network.closed


def test_closing_with_frames_inside_waits_for_the_device_and_frees_everything():
    device = FakeDevice(slowest=0.02)
    threads = threading.active_count()
    engine = inverting_ring(device)
    for number in range(3):
        engine.submit(frame_of(random_planes(SIZE, number)))
    engine.close()
    gc.collect()
    assert device.open == 0
    assert threading.active_count() <= threads


def test_views_are_freed_when_they_come_back_after_the_end():
    device = FakeDevice(slowest=0)
    with inverting_ring(device) as engine:
        engine.submit(frame_of(random_planes(SIZE)))
        planes = engine.next().planes
    gc.collect()
    assert device.pinned == 1
    assert int(planes.y.max()) > 0
    del planes
    gc.collect()
    assert device.open == 0


def test_buffers_may_come_back_on_any_thread():
    device = FakeDevice()
    outputs = OutputBuffers(device, 1000)

    def borrow() -> None:
        for _ in range(200):
            held = [outputs.take() for _ in range(3)]
            held[0][:] = 1
            del held

    threads = [threading.Thread(target=borrow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs.in_use == 0
    assert device.pinned <= 12
    outputs.close()
    assert device.open == 0


# -- the torch network in the ring ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["i420", "nv12"])
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_the_network_of_torch_on_cuda_gives_the_reference_when_it_runs_on_a_cpu(random_style, layout, precision):
    """All of it but CUDA: the module, the tensors on memory of the ring, the order of channels."""
    size, color = Size(70, 50), Color("bt601", full_range=True)
    frames = [frame_of(scene(size, n), n, color=color, canvas=(13 * n, 7)) for n in range(3)]
    with (
        torch_ring_on_fake_device(random_style, size, precision, color, layout) as engine,
        open_engine(random_style, size, color, backend="torch", precision="f32", device="cpu") as reference,
    ):
        for controls in (Controls(), Controls(0.5, 0), Controls(0, 0)):
            ours, theirs = (list(each.stylize(frames, controls)) for each in (engine, reference))
            for one, other in zip(ours, theirs, strict=True):
                found = differences(one.planes, other.planes)
                assert found.max() <= BOUNDS[precision].largest
                assert found.mean() <= BOUNDS[precision].mean
            if controls == Controls(0, 0):
                assert all(same(one.planes, frame.planes) for one, frame in zip(ours, frames, strict=True))


@pytest.mark.parametrize("name", list_styles())
def test_every_shipped_style_holds_its_bound_when_every_activation_is_float16(name):
    size = Size(161, 121)
    frames = [frame_of(scene(size, n), n, canvas=(13 * n, 7)) for n in range(2)] + fixed_frames(size, Color())
    style = load_style(name)
    with (
        torch_ring_on_fake_device(style, size, "f16") as engine,
        open_engine(style, size, backend="torch", precision="f32", device="cpu") as reference,
    ):
        ours, theirs = ([frame.planes for frame in each.stylize(frames)] for each in (engine, reference))
    found = difference(ours, theirs)
    assert found.largest <= BOUNDS["f16"].largest
    assert found.mean <= BOUNDS["f16"].mean


@pytest.mark.parametrize("size", [Size(64, 48), Size(17, 33), Size(321, 241)], ids=str)
def test_nv12_gives_the_same_frame_as_i420(random_style, size):
    frame = frame_of(scene(size))
    results = []
    for layout in ("i420", "nv12"):
        device = FakeDevice(slowest=0)
        model = graph.planar(random_style.trunk, size, layout=layout).SerializeToString()
        with RingEngine(
            backend="tensorrt", precision="f16", device=device, network=PlanarOnCpu(device, model, size, layout=layout),
            size=size, color=Color(),
        ) as engine:  # fmt: skip
            engine.submit(frame)
            results.append(engine.next().planes)
    assert same(*results)
