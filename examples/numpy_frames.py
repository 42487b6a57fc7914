"""Stylize frames that are one NumPy array of shape (count, height, width, 3), uint8, RGB.

python examples/numpy_frames.py in.npy out.npy ink
"""

import sys

import numpy as np

from rtstyle import Stylizer

source, target, style = sys.argv[1:]
frames = np.load(source)
with Stylizer(style, follow=True) as stylizer:  # successive frames of one video: strokes follow the camera
    np.save(target, np.stack([stylizer.stylize(frame) for frame in frames]))
