"""The ONNX Runtime engine beside what all engines have in common (test_engines.py)."""

import platform
import sys
import threading

import pytest
from test_engines import frame_of, random_planes

from rtstyle.backends import open_engine
from rtstyle.errors import SettingError
from rtstyle.frame import Size

pytest.importorskip("onnxruntime")

SIZE = Size(64, 48)


def test_where_openvino_has_no_wheel_auto_takes_it(random_style, monkeypatch):
    monkeypatch.setitem(sys.modules, "rtstyle.backends.openvino", None)  # as if its import failed
    with open_engine(random_style, SIZE) as engine:
        assert (engine.backend, engine.device) == ("onnxruntime", "CPU")
        assert engine.precision == ("int8" if platform.machine().lower() in ("x86_64", "amd64") else "f32")


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_that_it_does_not_have_is_refused(random_style, precision):
    with pytest.raises(SettingError, match=rf"onnxruntime has no precision {precision} \(it has int8, f32\)"):
        open_engine(random_style, SIZE, backend="onnxruntime", precision=precision)


def test_files_have_a_frame_for_each_core_and_live_has_one(random_style):
    with open_engine(random_style, SIZE, backend="onnxruntime") as files:
        assert files.in_flight >= 2
    with open_engine(random_style, SIZE, backend="onnxruntime", mode="latency") as live:
        assert live.in_flight == 1


def test_it_leaves_no_thread(random_style):
    before = threading.active_count()
    with open_engine(random_style, SIZE, backend="onnxruntime") as engine:
        list(engine.stylize(frame_of(random_planes(SIZE, n)) for n in range(5)))
        engine.submit(frame_of(random_planes(SIZE)))
    assert threading.active_count() == before
