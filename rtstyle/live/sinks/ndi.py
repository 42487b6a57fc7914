"""An NDI source: other programs on the network see the stylized video, with OBS's plug-in for NDI, vMix, Resolume.

NDI is a registered trademark of Vizrt NDI AB (https://ndi.video). Its library comes with cyndilib, an extra that users
install themselves, and has terms of its own: the NDI SDK license.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rtstyle.errors import SettingError, VideoWriteError
from rtstyle.frame import Frame, RgbConverter, Size


def check_ndi() -> None:
    """Refuse where NDI is not installed.

    Raises:
        SettingError: The message states how to install it.
    """
    try:
        import cyndilib  # noqa: F401
    except ImportError as error:
        raise SettingError(f"NDI needs cyndilib: pip install 'rtstyle[ndi]' ({error})") from error


class NdiSource:
    """Sends frames as an NDI source, in RGB so that no program has to guess the matrix; a ``Sink``.

    Args:
        name: What other programs list it as, behind the name of this machine.
        rate: Frames per second that is declared; frames are sent as they come.

    Raises:
        SettingError: cyndilib is not installed.
        VideoWriteError: The source cannot be opened.
    """

    def __init__(self, name: str, *, size: Size, rate: Fraction) -> None:
        check_ndi()
        from cyndilib.sender import Sender
        from cyndilib.video_frame import VideoSendFrame
        from cyndilib.wrapper.ndi_structs import FourCC

        self._to_rgb = RgbConverter()
        frame: Any = VideoSendFrame()
        frame.set_resolution(size.width, size.height)
        frame.set_frame_rate(rate)
        frame.set_fourcc(FourCC.RGBX)
        self._sender: Any = Sender(name, clock_video=False, clock_audio=False)
        self._sender.set_video_frame(frame)
        try:
            self._sender.open()
        except (RuntimeError, OSError, ValueError) as error:
            raise VideoWriteError(f"the NDI source {name} cannot be opened: {' '.join(str(error).split())}") from error

    def write(self, frame: Frame) -> None:
        """Send a frame to the programs that receive it."""
        import cv2

        rgbx = cv2.cvtColor(self._to_rgb.convert(frame.planes, frame.color), cv2.COLOR_RGB2RGBA)
        self._sender.write_video_async(rgbx.ravel())

    def close(self) -> None:
        """Take the source off the network."""
        self._sender.close()
