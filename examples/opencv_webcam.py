"""Stylize what OpenCV captures: a camera by number, or a file or URL.

python examples/opencv_webcam.py 0
python examples/opencv_webcam.py clip.mp4 last.png     # without a window: keeps the last frame
"""

import sys

import cv2

from rtstyle import Stylizer

source = sys.argv[1]
snapshot = sys.argv[2] if len(sys.argv) > 2 else None

capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
if not capture.isOpened():
    sys.exit(f"OpenCV cannot open {source}")
result = None
with Stylizer("ink", follow=True) as stylizer:
    while True:
        arrived, image = capture.read()
        if not arrived:
            break
        result = stylizer.stylize(image[..., ::-1])[..., ::-1]  # OpenCV's images are BGR
        if snapshot is None:  # needs opencv-python; opencv-python-headless has no windows
            cv2.imshow("rtstyle", result)
            if cv2.waitKey(1) == ord("q"):
                break
if snapshot and result is not None:
    cv2.imwrite(snapshot, result)
