"""Images as arrays: RGB in, stylized RGB out, with the engine kept open between calls."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rtstyle.backends import Controls, Engine, EngineSettings, open_for
from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.closing import Closing
from rtstyle.frame import Color, Frame, Plane, Size, check_rgb
from rtstyle.interrupts import signals_held
from rtstyle.mask.mix import FrameMask, mix_rgb
from rtstyle.mask.opening import open_mask
from rtstyle.mask.settings import MaskSettings
from rtstyle.settings import check_is
from rtstyle.style import Style, load_style

_COLOR = Color("bt601", full_range=True)
"""How JPEG means its samples (JFIF); all images are treated so inside."""


class Stylizer(Closing):
    """Stylizes images of one style, with one engine that stays open as long as their size does not change.

    A context manager; one thread uses it at a time.

        with Stylizer("sketch", follow=True) as stylizer:
            for image in images:
                show(stylizer.stylize(image))

    Args:
        style: What ``load_style`` takes, or a style.
        controls: Strength, and whether colors are kept; the attribute ``controls`` may be set between two images.
        engine: Backend, precision, device, size of the network and size of strokes.
        follow: True where the images are the frames of one video, in order: strokes then follow what moves. A word
            says what they follow, see ``RenderOptions.follow``. False: every image stands for itself, so the same
            image always gives the same result.
        mask: Where in the images the style counts; of a video its first frame.

    Raises:
        StyleNotFoundError: There is no such style.
    """

    def __init__(
        self,
        style: Style | str = "sketch",
        *,
        controls: Controls = Controls(),
        engine: EngineSettings = EngineSettings(),
        follow: bool | Follow = False,
        mask: MaskSettings = MaskSettings(),
    ) -> None:
        check_is("engine", engine, EngineSettings)
        check_is("mask", mask, MaskSettings)
        self.style = (style if isinstance(style, Style) else load_style(style, engine.size_class)).sized(
            engine.size_class
        )
        self.controls = controls
        self.engine: Engine | None = None
        """The engine in use; None before the first image."""
        self._settings, self._mask_settings = engine, mask
        self._mask: FrameMask | None = None
        self._count = -1
        self._follow: Follow | None = "auto" if follow is True else follow or None
        self._scene = self._new_scene()

    def stylize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stylize one image.

        Args:
            image: Shape (height, width, 3), uint8, RGB, of at least 16x16; it is only read. Images of OpenCV are BGR:
                ``stylizer.stylize(image[..., ::-1])[..., ::-1]``.

        Returns:
            A new array of the same shape, uint8, RGB. At strength 0 it equals the image.

        Raises:
            SettingError: The array has another shape or dtype, or a setting is out of range.
            BackendUnavailableError: No engine can be opened.
        """
        rgb = np.ascontiguousarray(check_rgb(image))
        height, width = rgb.shape[:2]
        engine = self._engine_for(Size(width, height))
        frame = Frame.from_rgb(rgb, color=_COLOR)
        if self._follow:
            frame = self._scene.follow(frame)
        check_is("controls", self.controls, Controls)
        if self.controls == Controls(0, 0):
            return rgb.copy()  # going through 4:2:0 would soften what strength 0 must not touch
        try:
            engine.submit(frame, self.controls)
            stylized = engine.next().to_rgb()
            weights = self._weights(frame)
            return stylized if weights is None else mix_rgb(rgb, stylized, weights)
        except BaseException:  # Ctrl-C too: the frame inside would be taken for the next image's
            self.close()
            raise

    def _weights(self, frame: Frame) -> Plane | None:
        """Return the mask of an image; None: the style counts everywhere."""
        if self._mask is None:
            return None
        if not self._follow:
            self._mask.restart()
        self._count += 1  # images have no times: 25 a second are assumed
        return self._mask.at(frame, Fraction(self._count, 25) if self._follow else Fraction(0))

    def _engine_for(self, size: Size) -> Engine:
        if self.engine is None or self.engine.size != size:
            self.close()
            # A backend that is interrupted while it is imported only looks as if it were missing.
            with signals_held() as let_signals_through:
                self._mask = open_mask(self._mask_settings, size)
                self.engine = open_for(self.style, size, _COLOR, self._settings, live=False, mode="latency")
                let_signals_through()
        return self.engine

    def close(self) -> None:
        """Free the engine; the next image opens another one."""
        if self.engine is not None:
            self.engine.close()
        if self._mask is not None:
            self._mask.close()
        self.engine, self._mask = None, None
        self._scene = self._new_scene()

    def _new_scene(self) -> SceneFollower:
        return SceneFollower(steered=self.style.steered, follow=self._follow or "off")


@dataclass
class _Kept:
    """The stylizer of the last call of ``stylize``, and what it was made for."""

    lock: threading.Lock
    asked: tuple[object, ...] = ()
    stylizer: Stylizer | None = None


_kept = _Kept(threading.Lock())


def stylize(
    image: NDArray[np.uint8],
    style: Style | str = "sketch",
    *,
    controls: Controls = Controls(),
    engine: EngineSettings = EngineSettings(),
) -> NDArray[np.uint8]:
    """Stylize one image that is an array.

    The engine of the last call stays open, so that a call for another image of the same size and style only takes
    as long as the network. A ``Stylizer`` frees it at a stated moment, serves a thread of its own, and follows the
    camera through the frames of a video. Calls from several threads wait for each other.

    Args:
        image: Shape (height, width, 3), uint8, RGB, of at least 16x16; it is only read. Images of OpenCV are BGR:
            ``stylize(image[..., ::-1])[..., ::-1]``.
        style: What ``load_style`` takes, or a style.
        controls: Strength, and whether colors are kept.
        engine: Backend, precision, device, size of the network and size of strokes.

    Returns:
        A new array of the same shape, uint8, RGB.

    Raises:
        SettingError: The array has another shape or dtype, or a setting is out of range.
        StyleNotFoundError, StyleFormatError: There is no such style, or it cannot be read.
        BackendUnavailableError: No engine can be opened.
    """
    check_rgb(image)
    asked = (style, engine)
    with _kept.lock:
        if _kept.stylizer is None or _kept.asked != asked:
            fresh = Stylizer(style, engine=engine)
            if _kept.stylizer is not None:
                _kept.stylizer.close()
            _kept.asked, _kept.stylizer = asked, fresh
        _kept.stylizer.controls = controls
        return _kept.stylizer.stylize(image)
