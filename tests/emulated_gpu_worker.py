"""A worker process on emulated GPUs, see emulated_gpu.py; plans come from the cache that RTSTYLE_CACHE names."""

from __future__ import annotations

import cuda.bindings
from emulated_gpu import EmulatedRuntime, emulated_tensorrt

from rtstyle.backends import compiler, tensorrt
from rtstyle.backends import cuda as cuda_py
from rtstyle.render import worker

if __name__ == "__main__":
    emulated = EmulatedRuntime()
    cuda.bindings.runtime = emulated
    for module in (cuda_py, tensorrt):
        module.driver_problem = lambda: None
    library = compiler.Library(emulated_tensorrt(emulated, compiler.library().trt), rtx=True)
    tensorrt.library = lambda: library
    worker.answer_jobs()
