"""What several workers give, and what they cost.

    python benchmarks/scale.py FOLDER [--parts efficiency overhead plan memory failure simulation] [--ray]

    efficiency  engines that only sleep, 2, 4 and 8 workers: how much of their time is used
    overhead    one worker against one process, with a real engine
    plan        frames per second of planning alone, and how many workers that feeds
    memory      the coordinator's memory over 10,000 frames
    failure     from the death of a worker to its segment being rendered elsewhere
    simulation  100 nodes in simulated time, given out by rtstyle's own scheduler

Figures go to FOLDER/scale.json, a plot to FOLDER/scale.png (pip install matplotlib). With ``--ray`` the workers of
efficiency, overhead and failure are nodes of a Ray cluster on this machine. Load of the machine is in the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER"] = "0"  # as the commands have it
os.environ["OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN"] = "0"

import av
import machine
from fps import SIZES, scaled_clip
from scale_model import simulate

from rtstyle import EncoderSettings, RenderOptions, VideoReader, __version__, load_style, stylize_video
from rtstyle.canvas.flow import compared, reduced
from rtstyle.canvas.follower import SceneFollower
from rtstyle.render import plan_render, segments
from rtstyle.render.coordinate import render_with
from rtstyle.render.flow import Timings
from rtstyle.render.follow import VideoFollower
from rtstyle.render.job import Fingerprint
from rtstyle.render.planner import planned
from rtstyle.render.pool import Gone, LocalPool, Pool
from rtstyle.render.report import VideoReport

# For the workers.
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

SLEEPER = Path(__file__).with_name("sleeping_worker.py")
QUICK = EncoderSettings(preset="ultrafast")


def long_clip(folder: Path, frames: int, size: str = "160x96") -> Path:
    """Make a small video of so many frames with a key frame every two seconds."""
    path = folder / f"long-{frames}-{size}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part, graph = path.with_suffix(".part"), av.filter.Graph()
    made, sink = graph.add("testsrc2", f"size={size}:rate=25:duration={frames / 25}"), graph.add("buffersink")
    made.link_to(sink)
    graph.configure()
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "50", "preset": "ultrafast"})
        stream.width, stream.height = map(int, size.split("x"))
        for _ in range(frames):
            frame = sink.pull().reformat(format="yuv420p")
            frame.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses where key frames are
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.rename(path)
    return path


@contextmanager
def workers(count: int, ray: bool, sleep: bool) -> Iterator[tuple[Pool, Any]]:
    """Open a pool of so many workers; with Ray, each is the node of a cluster, which is yielded, too."""
    if not ray:
        command = {"command": [sys.executable, str(SLEEPER)]} if sleep else {}
        yield LocalPool(count, **command), None
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster
    from sleeping_worker import SleepingRayWorker

    from rtstyle.render.cluster import RayPool, RayWorker

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cores = 1 if count > 1 else machine.cores()
        nodes = [cluster.add_node(num_cpus=cores, object_store_memory=80 << 20) for _ in range(count)]
        pool = RayPool(cluster.address, worker=SleepingRayWorker if sleep else RayWorker)
        while len(pool.slots()) < count:
            time.sleep(0.1)
        _settle()
        yield pool, (cluster, nodes)
    finally:
        cluster.shutdown()


def _settle(seconds: float = 60.0) -> None:
    """Wait until the processes of a cluster that has just been started have loaded what they load: 9 CPU-s for Ray."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        idle, begun = _idle(), time.perf_counter()
        time.sleep(2)
        if (_idle() - idle) > 0.93 * machine.cores() * (time.perf_counter() - begun):
            return


def _idle() -> float:
    """Return for how many seconds the machine's cores have been idle, all together."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def render(
    source: Path, target: Path, pool: Pool, progress: Callable[..., None] | None = None, **settings: Any
) -> VideoReport:
    """Render a video by a pool."""
    options = RenderOptions(overwrite=True)
    plan = plan_render(source, target, style="sketch", encoder=QUICK, options=options, **settings)
    return render_with(plan, pool, progress)


def efficiency(folder: Path, ray: bool, frames: int = 1440, rate: float = 40.0) -> list[dict[str, Any]]:
    """Measure which share of the time of 2, 4 and 8 sleeping engines is used.

    Args:
        rate: Frames a second of all engines together; two cores must decode and encode that.
    """
    from sleeping_worker import sleep_instead

    sleep_instead()
    segments.segment_frames = lambda size: 24  # type: ignore[assignment]
    rows = []
    for count in (2, 4, 8):
        sleep = count / rate
        os.environ["SLEEP"] = str(sleep)
        film = long_clip(folder, frames)
        cpu = _cpu()
        with workers(count, ray, sleep=True) as (pool, _):
            started = _started(pool, ray)
            begun = time.perf_counter()
            report = render(film, folder / "out.mp4", pool)
            seconds = time.perf_counter() - begun
        ideal = frames * sleep / count
        rows.append(
            {
                "workers": count, "frames": frames, "ms a frame of each": 1000 * sleep, "seconds": round(seconds, 2),
                "ideal": round(ideal, 2), "efficiency": round(ideal / seconds, 3),
                "with start": round(ideal / (seconds + started), 3),
                # Of the workers' time: in jobs; the rest is the first plan, jobs between two, the last ones, joining.
                "busy": round(sum(node["seconds"] for node in report.nodes) / count / seconds, 3),
                "joining s": round(report.stages["join"] / 1000, 2), "cpu seconds": round(_cpu() - cpu, 1),
                "warnings": report.warnings, "load": os.getloadavg()[0],
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _started(pool: Pool, ray: bool) -> float:
    """Wait until every process has loaded its libraries, as Ray's have; return the seconds that it took."""
    begun = time.perf_counter()
    children = [] if ray else [pool.process(slot).pid for slot in pool.slots()]  # type: ignore[attr-defined]
    while not all("libavcodec" in Path(f"/proc/{child}/maps").read_text() for child in children):
        time.sleep(0.05)
    return time.perf_counter() - begun


def overhead(folder: Path, ray: bool, rounds: int = 3, frames: int = 300) -> dict[str, Any]:
    """Compare one worker with one process, by wall time and by CPU time of all processes."""
    film = scaled_clip(_clip(), SIZES["720p"], folder, frames)
    runs: dict[str, list[tuple[float, float]]] = {"local": [], "worker": []}
    for _ in range(rounds):
        begun, cpu = time.perf_counter(), _cpu()
        options = RenderOptions(overwrite=True)
        stylize_video(film, folder / "local.mp4", style="sketch", encoder=QUICK, options=options)
        runs["local"].append((time.perf_counter() - begun, _cpu() - cpu))
        with workers(1, ray, sleep=False) as (pool, _):
            if not ray:
                while not pool.slots():
                    time.sleep(0.01)
            begun, cpu = time.perf_counter(), _cpu()
            render(film, folder / "worker.mp4", pool)
            runs["worker"].append((time.perf_counter() - begun, _cpu() - cpu))
            print(runs, flush=True)
    assert (folder / "local.mp4").read_bytes() == (folder / "worker.mp4").read_bytes()
    wall = {name: statistics.median(run[0] for run in each) for name, each in runs.items()}
    cpu_of = {name: statistics.median(run[1] for run in each) for name, each in runs.items()}
    result = {
        "frames": frames,
        "seconds": {name: round(value, 2) for name, value in wall.items()},
        "cpu seconds": {name: round(value, 2) for name, value in cpu_of.items()},
        "wall overhead": round(wall["worker"] / wall["local"] - 1, 3),
        # Ray's workers are no children of this process.
        "cpu overhead": None if ray else round(cpu_of["worker"] / cpu_of["local"] - 1, 3),
        "load": os.getloadavg()[0],
    }
    print(result, flush=True)
    return result


def _cpu() -> float:
    """Return the CPU seconds of this process and all below it, also of those that have ended and were waited for."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents.setdefault(int(fields[1]), []).append(int(place.name))
        used[int(place.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += used.get(process, 0.0)
        waiting += parents.get(process, [])
    return total


def _clip() -> Path:
    return Path(__file__).resolve().parents[1] / "demo" / "big_buck_bunny.mp4"


def plan(folder: Path) -> list[dict[str, Any]]:
    """Measure how fast videos are planned, and what each stage takes when it is not interrupted (20th percentile)."""
    rows = []
    for size, follow in (("720p", "flow"), ("720p", "camera"), ("1080p", "flow"), ("1080p", "camera")):
        film = scaled_clip(_clip(), SIZES[size], folder, 200)
        with VideoReader(film) as reader:
            reader.keep_packets = False
            follower = VideoFollower(reader, every=90, steered=load_style("sketch").steered, follow=follow)  # type: ignore[arg-type]
            begun, cpu = time.perf_counter(), time.process_time()
            count = sum(len(segment.pts) for segment in planned(reader, follower, 90, None, Timings()))
            seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        stages, serial = _stages(film, follow)
        # With cores for all: frames are compared in up to four threads, the other stages have one each.
        ceiling = 1000 / max(time / (4 if name == "compare" else 1) for name, time in stages.items())
        rows.append(
            {
                "size": size, "follow": follow, "fps": round(count / seconds, 1), "one after the other": serial,
                "cpu ms a frame": round(1000 * used / count, 2), "stages ms": stages,
                "ceiling of many cores fps": round(ceiling), "load": os.getloadavg()[0],
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _stages(film: Path, follow: str) -> tuple[dict[str, float], float]:
    """Time the stages one after the other, frame by frame; of one thread each, but for the codec's own.

    Returns:
        Milliseconds of each, and frames per second of all.
    """
    times: dict[str, list[float]] = {"decode": [], "track": [], "compare": [], "measure": []}
    scene = SceneFollower(steered=load_style("sketch").steered, follow=follow)  # type: ignore[arg-type]
    small, last = None, (0, 0)
    with VideoReader(film) as reader:
        reader.keep_packets = False
        frames, moments = iter(reader), [time.perf_counter()]
        for frame in frames:
            moments.append(time.perf_counter())
            offset, before = scene.offset(frame), small
            small = reduced(frame.planes.y)
            moments.append(time.perf_counter())
            moved, last = (float(last[0] - offset[0]), float(last[1] - offset[1])), offset
            flows = follow == "flow" and before is not None
            known = compared(before, small, moved, frame.planes.y.shape) if flows else None
            moments.append(time.perf_counter())
            scene.follow(frame, offset, known)
            Fingerprint().add(frame.planes, frame.pts)
            moments.append(time.perf_counter())
            for name, first, second in zip(times, moments, moments[1:], strict=False):
                times[name].append(1000 * (second - first))
            moments = [time.perf_counter()]
    fps = 1000 * len(times["decode"]) / sum(map(sum, times.values()))
    return {name: round(statistics.quantiles(each[1:], n=5)[0], 3) for name, each in times.items()}, round(fps, 1)


def memory(folder: Path, frames: int = 10_000) -> dict[str, Any]:
    """Sample the coordinator's memory while it has 10,000 frames rendered."""
    from sleeping_worker import sleep_instead

    sleep_instead()
    os.environ["SLEEP"] = "0"
    film = long_clip(folder, frames, "640x360")
    page = resource.getpagesize()
    samples: list[tuple[int, float]] = []

    def sample(done: int, total: int | None, words: str) -> None:
        if not samples or done - samples[-1][0] >= 250:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page / 2**20
            samples.append((done, round(resident, 1)))

    with workers(2, False, sleep=True) as (pool, _):
        report = render(film, folder / "out.mp4", pool, sample)
    after = [mb for done, mb in samples if done >= frames // 5]
    early, late = statistics.mean(after[: len(after) // 4]), statistics.mean(after[-len(after) // 4 :])
    result = {
        "frames": frames, "MB": samples[:: max(1, len(samples) // 12)], "mean of first quarter": round(early, 1),
        "mean of last quarter": round(late, 1), "fps": report.fps, "stages ms": report.stages,
    }  # fmt: skip
    print(result, flush=True)
    return result


def failure(folder: Path, ray: bool, rounds: int = 3) -> list[dict[str, Any]]:
    """Measure from the kill of a worker until its segments are given to another, and until they are rendered."""
    from sleeping_worker import sleep_instead

    sleep_instead()
    segments.segment_frames = lambda size: 24  # type: ignore[assignment]
    os.environ["SLEEP"] = "0.02"
    film, rows = long_clip(folder, 1440), []
    for _ in range(rounds):
        with workers(3, ray, sleep=True) as (pool, nodes):
            moments: dict[str, float] = {}
            _watch(pool, moments)
            killer = threading.Thread(target=_kill, args=(pool, nodes, moments))

            def begin(done: int, *_: object, killer: threading.Thread = killer) -> None:
                if done > 100 and not killer.ident:
                    killer.start()

            report = render(film, folder / "out.mp4", pool, begin)
            killer.join()
        row = {name: round(moments[name] - moments["killed"], 3) for name in ("noticed", "given out", "rendered")}
        rows.append(row | {"warnings": len(report.warnings), "load": os.getloadavg()[0]})
        print(rows[-1], flush=True)
    return rows


def _kill(pool: Pool, nodes: Any, moments: dict[str, float]) -> None:
    slot = pool.slots()[0]
    if nodes is None:
        moments["killed"] = time.perf_counter()
        pool.process(slot).kill()  # type: ignore[attr-defined]
    else:
        cluster, made = nodes
        moments["killed"] = time.perf_counter()
        cluster.remove_node(made[0], allow_graceful=False)


def _watch(pool: Pool, moments: dict[str, float]) -> None:
    """Note when a death is noticed, when the first job after it is given out that was given out before, and done."""
    put, submit = pool.inbox.put, pool.submit
    given: set[int] = set()
    again: list[int] = []

    def watched_put(message: Any, *args: Any, **options: Any) -> None:
        if isinstance(message, Gone) and "killed" in moments:
            moments.setdefault("noticed", time.perf_counter())
        if again and getattr(message, "ticket", None) == again[0]:
            moments.setdefault("rendered", time.perf_counter())
        put(message, *args, **options)

    def watched_submit(slot: Any, ticket: int, job: Any) -> None:
        if job.first in given and "noticed" in moments and not again:
            again.append(ticket)
            moments["given out"] = time.perf_counter()
        given.add(job.first)
        submit(slot, ticket, job)

    pool.inbox.put, pool.submit = watched_put, watched_submit  # type: ignore[method-assign]


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw efficiency as measured, and the law for one video and for folders."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for name, label in (("efficiency", "processes"), ("efficiency ray", "Ray nodes")):
        if rows := found.get(name):
            loads = [row["load"] for row in rows]
            left.plot(
                [row["workers"] for row in rows],
                [row["efficiency"] for row in rows],
                "o-",
                label=f"{label}, load {min(loads):.0f} to {max(loads):.0f}",
            )
    left.axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
    left.set(
        xlabel="workers",
        ylabel="efficiency",
        ylim=(0, 1.05),
        title="Measured: engines that sleep, one video",
    )
    left.set_xscale("log", base=2)
    left.legend()
    counts = range(1, 33)
    # Milliseconds: of rendering on two quiet cores; of planning on two cores, and where the tracker alone limits it.
    for size, render_ms, two_ms, many_ms in (("720p", 15.8, 3.0, 1.35), ("1080p", 31.9, 5.6, 2.3)):
        for plan_ms, line, where in ((two_ms, "-", "two cores plan"), (many_ms, "--", "many cores plan")):
            fps = [min(n * 1000 / render_ms, 1000 / plan_ms) for n in counts]
            right.plot(counts, fps, line, label=f"one video, {size}, {where}")
    right.plot(counts, [n * 1000 / 15.8 for n in counts], ":", label="a folder, 720p")
    right.set(
        xlabel="nodes of two cores", ylabel="frames a second", title="Law, --follow camera: planning is the ceiling"
    )
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parts = ("efficiency", "overhead", "plan", "memory", "failure", "simulation")
    parser.add_argument("--parts", nargs="+", choices=(*parts, "plot"), default=[*parts, "plot"])
    parser.add_argument("--ray", action="store_true")
    parser.add_argument(
        "--frames", type=int, default=1440, help="of the video whose efficiency is measured (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=40.0, help="frames a second of all its engines together: less "
                        "where other work has the cores (default: %(default)s)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="of overhead (default: %(default)s)")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    place = args.folder / "scale.json"
    found: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    found |= {"rtstyle": __version__, "machine": machine.describe()}
    kind = " ray" if args.ray else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "plan" in args.parts:
            found["plan"] = plan(folder)
        if "overhead" in args.parts:
            found[f"overhead{kind}"] = overhead(folder, args.ray, args.rounds)
        if "simulation" in args.parts:
            found["simulation"] = simulate()
        if "efficiency" in args.parts:
            found[f"efficiency{kind}"] = efficiency(folder, args.ray, args.frames, args.rate)
        if "failure" in args.parts:
            found[f"failure{kind}"] = failure(folder, args.ray)
        if "memory" in args.parts:
            found["memory"] = memory(folder)
    place.write_text(json.dumps(found, indent=1))
    if "plot" in args.parts:
        plot(found, args.folder / "scale.png")


if __name__ == "__main__":
    main()
