"""What the page of `rtstyle serve` reaches in a real browser: FPS, round trip, gap at a change of style, memory.

    python benchmarks/browser.py                    # 20 s, headless Chromium, a clip as its camera
    python benchmarks/browser.py --soak 600         # ten minutes: does memory or lag grow?
    python benchmarks/browser.py --screenshot docs  # serve.png, serve-phone.png, serve-dark.png

It needs playwright (pip), Chromium and ffmpeg. The server is a process of its own, as for a user; all figures
of the image are the page's: a round trip is from taking the camera's image to drawing the stylized one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from rtstyle.live.figures import percentiles
from rtstyle.style import list_styles

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "demo" / "big_buck_bunny.mp4"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
)  # fmt: skip
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


def find_browser() -> str | None:
    """Return the path of Chromium or Chrome; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def camera_clip(folder: Path, clip: Path = CLIP) -> Path:
    """Make what Chromium takes for a camera: the clip as 640x360 MJPEG, 30 frames a second."""
    target = folder / "camera.mjpeg"
    filters = "scale=640:360:force_original_aspect_ratio=increase,crop=640:360,fps=30"
    command = ["ffmpeg", "-v", "error", "-y", "-i", clip, "-an", "-vf", filters, "-q:v", "3", "-c:v", "mjpeg", target]
    subprocess.run(command, check=True)
    return target


@contextmanager
def chromium(play: Any, *flags: str) -> Iterator[Any]:
    """Start a headless Chromium; playwright's Browser."""
    browser = play.chromium.launch(executable_path=find_browser(), headless=True, args=[*FLAGS, *flags])
    try:
        yield browser
    finally:
        browser.close()


def wait(page: Any, condition: str, seconds: float = 30) -> None:
    """Wait until an expression is true. Playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds:g} s: {condition}; {page.inner_text('#notice')!r}")
        page.wait_for_timeout(20)


def begin(page: Any, url: str) -> None:
    """Open the page, start the camera and wait for the first stylized images."""
    page.goto(url)
    page.click("#start")
    wait(page, "window.rtstyle.stats.drawnAt.length > 10")


def measure(page: Any, seconds: float) -> dict[str, float]:
    """Watch for a while: FPS, round trip and time in the server (ms, percentiles), longest gap (ms)."""
    before = page.evaluate("window.rtstyle.stats.drawnAt.at(-1)")
    page.wait_for_timeout(1000 * seconds)
    return figures(page, before)


def figures(page: Any, since: float) -> dict[str, float]:
    """Sum up what was drawn since a moment of the page."""
    stats = page.evaluate("window.rtstyle.stats")
    drawn = np.array(stats["drawnAt"])
    new = drawn > since
    drawn, trips, server = drawn[new], np.array(stats["trips"])[new], np.array(stats["server"])[new]
    if len(drawn) < 2:
        return {"frames": len(drawn), "fps": 0.0}
    result = {"frames": len(drawn), "fps": round(float(1000 * (len(drawn) - 1) / (drawn[-1] - drawn[0])), 1)}
    for name, values in (("round_trip", trips), ("server", server)):
        result |= {f"{name}_{percent}": value for percent, value in percentiles(values, 1).items()}
    return result | {"longest_gap": round(float(np.diff(drawn).max()), 1)}


def change_style(page: Any, place: int) -> dict[str, float]:
    """Choose another style; how long until it is seen, and the longest gap between images meanwhile (ms)."""
    begun = page.evaluate("performance.now()")
    page.evaluate(f"document.querySelectorAll('#styles input')[{place}].click()")
    wait(page, f"window.rtstyle.stats.style === {place}")
    seen = page.evaluate("window.rtstyle.stats.drawnAt.at(-1)")
    page.wait_for_timeout(500)
    drawn = np.array(page.evaluate("window.rtstyle.stats.drawnAt"))
    drawn = drawn[drawn > begun - 200]
    return {"seen_after": round(seen - begun), "longest_gap": round(float(np.diff(drawn).max()), 1)}


@contextmanager
def server(*words: str) -> Iterator[tuple[str, int]]:
    """Run `rtstyle serve` on a free port; yields the URL and the process id."""
    command = [sys.executable, "-m", "rtstyle", "serve", "--port", "0", *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if "open http" in line:
                    yield line.split("open ")[1].split()[0], process.pid
                    break
                print(line, end="", file=sys.stderr)
            else:
                raise SystemExit("the server did not start")
        finally:
            process.terminate()


def resident(pid: int) -> float:
    """MiB of memory that a process has; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def soak(page: Any, pid: int, seconds: float) -> list[dict[str, float]]:
    """Watch for long, in twenty parts; a line for each on stderr."""
    parts = []
    for number in range(20):
        part = measure(page, seconds / 20) | {"server_mib": round(resident(pid), 1)}
        print(f"{(number + 1) * seconds / 20:6.0f} s  {part}", file=sys.stderr)
        parts.append(part)
    return parts


def screenshots(browser: Any, url: str, folder: Path) -> None:
    """Write the page as a computer and a phone show it, split, so that both sides can be seen."""
    wide, narrow = (1280, 720), (390, 844)
    for name, (width, height), scheme, style in (
        ("serve.png", wide, "light", "red_chalk"), ("serve-dark.png", wide, "dark", "red_chalk"),
        ("serve-phone.png", narrow, "light", "sketch"),
    ):  # fmt: skip
        screen, phone = {"width": width, "height": height}, width < height
        with browser.new_context(viewport=screen, is_mobile=phone, has_touch=phone, color_scheme=scheme) as context:
            page = context.new_page()
            begin(page, url)
            change_style(page, list_styles().index(style))
            page.check("#split", force=True)
            page.evaluate("document.querySelector('#camera option').textContent = 'Big Buck Bunny'")  # not its path
            page.wait_for_timeout(1500)
            page.screenshot(path=folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=CLIP, help="what the camera sees")
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure (default: %(default)s)")
    parser.add_argument("--soak", type=float, metavar="S", help="watch memory and lag for so long")
    parser.add_argument("--screenshot", type=Path, metavar="FOLDER", help="write images of the page")
    parser.add_argument("--lines", choices=("360", "480", "720"), default="360", help="size of the images")
    args = parser.parse_args()
    folder = ROOT / "benchmarks" / "results" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    clip = camera_clip(folder, args.clip)
    report: dict[str, Any] = {"begun": time.strftime("%Y-%m-%d %H:%M"), "lines": args.lines}
    try:
        with (
            server() as (url, pid),
            sync_playwright() as play,
            chromium(play, *CAMERA, f"--use-file-for-fake-video-capture={clip}") as browser,
        ):
            if args.screenshot:
                screenshots(browser, url, args.screenshot)
                return
            page = browser.new_page()
            begin(page, url)
            page.select_option("#resolution", args.lines)
            page.wait_for_timeout(4000)
            if args.soak:
                report["soak"] = soak(page, pid, args.soak)
            else:
                report["one visitor"] = measure(page, args.seconds)
                report["changes of style"] = [change_style(page, place) for place in (1, 2, 0)]
                other = browser.new_page()
                begin(other, url)
                since = page.evaluate("performance.now()"), other.evaluate("performance.now()")
                page.wait_for_timeout(1000 * args.seconds)
                report["two visitors"] = [figures(page, since[0]), figures(other, since[1])]
    finally:
        clip.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
