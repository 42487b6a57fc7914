"""A caller's own FrameSink in a live session."""

from __future__ import annotations

from rtstyle.frame import Frame, FrameSink


class OwnSink:
    """A ``FrameSink`` behind an branch: it is entered at once, and left in the branch's thread."""

    def __init__(self, sink: FrameSink) -> None:
        self.name = str(getattr(sink, "name", type(sink).__name__))
        self._sink = sink.__enter__()
        self._error: Exception | None = None

    def write(self, frame: Frame) -> None:
        """Pass one frame on."""
        try:
            self._sink.write(frame)
        except Exception as error:
            self._error = error
            raise

    def close(self) -> None:
        """Leave the sink, with the error that ended it, if any."""
        error = self._error
        self._sink.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
