"""Every program of examples/ runs, on small inputs."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import look, make_clip, moving_bar

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}


def run(name: str, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_every_example_is_listed_and_run_here():
    listed = (EXAMPLES / "README.md").read_text()
    mine = Path(__file__).read_text()
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert len(names) == 7
    for name in names:
        assert f"({name})" in listed
        assert f'"{name}"' in mine


def test_numpy_frames(tmp_path):
    frames = np.stack([np.repeat(moving_bar(64, 48, number)[0][..., None], 3, 2) for number in range(4)])
    np.save(tmp_path / "in.npy", frames)
    run("numpy_frames.py", tmp_path / "in.npy", tmp_path / "out.npy", "ink")
    result = np.load(tmp_path / "out.npy")
    assert (result.shape, result.dtype) == (frames.shape, np.uint8)
    assert np.abs(result.astype(int) - frames).mean() > 5


def test_opencv_webcam(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(5))
    run("opencv_webcam.py", clip, tmp_path / "last.png")
    assert cv2.imread(str(tmp_path / "last.png")).shape == (48, 64, 3)
    assert "cannot open" in run("opencv_webcam.py", tmp_path / "none.mp4", tmp_path / "no.png", code=1).stderr


def test_own_source(tmp_path):
    assert "50 frames" in run("own_source.py", tmp_path / "ball.mp4").stdout
    found = look(tmp_path / "ball.mp4")
    assert (found.width, found.height, len(found.times)) == (320, 240, 50)
    assert float(found.times[-1]) == 49 / 25


def test_own_sink(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", times=range(60))
    run("own_sink.py", clip, tmp_path / "diary")
    assert sorted(path.name for path in (tmp_path / "diary").iterdir()) == [
        "0000.png", "0001.png", "0002.png", "brightness.csv",
    ]  # fmt: skip
    assert len((tmp_path / "diary" / "brightness.csv").read_text().splitlines()) == 61


def test_batch(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    make_clip(tmp_path / "in" / "a.mp4", times=range(3))
    make_clip(tmp_path / "in" / "deep" / "b.mkv", times=range(3))
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no video")
    done = run("batch.py", tmp_path / "in", tmp_path / "out", "ink", code=1)
    assert "broken.mp4" in done.stderr
    assert done.stdout.count(": 3 frames") == 2
    again = run("batch.py", tmp_path / "in", tmp_path / "out", "ink", code=1)
    assert again.stdout.count("done before") == 2
    with av.open(str(tmp_path / "out" / "deep" / "b.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_server(tmp_path):
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port), Path("server.py").stem + ":app"]
    server = subprocess.Popen([sys.executable, *words], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                assert "sketch" in json.load(urllib.request.urlopen(f"{url}/styles", timeout=5))
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        image = cv2.imencode(".png", np.full((48, 64, 3), 120, np.uint8))[1].tobytes()
        headers = {"Content-Type": "image/png"}
        asked = urllib.request.Request(f"{url}/stylize?style=ink", image, headers)
        answer = urllib.request.urlopen(asked, timeout=60).read()
        assert cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
        for address, data, code in (("stylize?style=/etc", image, 404), ("stylize", b"no image", 415)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(f"{url}/{address}", data, headers), timeout=60)
            assert refused.value.code == code
    finally:
        server.terminate()
        server.wait()


def test_notebook(monkeypatch):
    monkeypatch.chdir(ROOT)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    names: dict[str, object] = {}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 5
    for cell in cells:
        *body, last = cell.splitlines()
        exec("\n".join(body), names)
        shown = eval(last, names)
        assert shown._repr_png_() if hasattr(shown, "_repr_png_") else shown._repr_jpeg_()
