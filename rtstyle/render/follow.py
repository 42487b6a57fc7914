"""The canvas follows the scene through a whole video, and through one that is resumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rtstyle.canvas.follower import Follow, SceneFollower
from rtstyle.canvas.tracker import TrackerState
from rtstyle.errors import VideoOpenError
from rtstyle.frame import Frame

if TYPE_CHECKING:
    from rtstyle.render.journal import Checkpoint
    from rtstyle.video import VideoReader


class VideoFollower:
    """Moves the canvas along with the scene, from the first frame or from a checkpoint.

    Args:
        every: After so many frames, again and again, it notes where the render stands.
        steered: Whether the style draws on a steered canvas.
        follow: What the canvas follows.
        checkpoint: Where an earlier run stood; this one continues behind that frame, exactly as that one would have.
    """

    def __init__(
        self,
        reader: VideoReader,
        *,
        every: int,
        steered: bool,
        follow: Follow = "auto",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._reader, self._every, self._from = reader, every, checkpoint
        self.scene = SceneFollower(steered=steered, follow=follow)
        self._checkpoints: dict[int, Checkpoint] = {}
        self.damaged_before = 0
        """Damage that an earlier run found and this one does not meet again."""

    def checkpoint_at(self, frames: int) -> Checkpoint:
        """Return where the render stands after so many frames, a multiple of ``every``; once for each."""
        return self._checkpoints.pop(frames)

    def unfinished(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield those of the reader's frames that no earlier run has rendered.

        Raises:
            VideoOpenError: The reader decodes to other frames than the earlier run's.
        """
        from rtstyle.video.samples import planes_digest

        skip = 0
        if self._from:
            assert self._from.canvas, "it came from a journal, which knows it"
            self.scene.restore(self._from.canvas)
            if self._reader.resume_after(self._from.pts, self._from.digest):
                self.damaged_before = self._from.damaged
            else:
                skip = self._from.frames
        for frame in frames:
            if skip:
                skip -= 1
                if not skip and self._from and planes_digest(frame.planes) != self._from.digest:
                    raise VideoOpenError(
                        f"{self._reader.name} decodes to other frames than when its render was begun: "
                        "--resume cannot continue with it, -y (--overwrite) without it starts over"
                    )
                continue
            yield frame

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the reader's frames that are not rendered yet, each with its place on the canvas.

        Raises:
            VideoOpenError: The reader decodes to other frames than the earlier run's.
        """
        count = self._from.frames if self._from else 0
        for frame in self.unfinished(frames):
            frame = self.scene.follow(frame)
            count += 1
            if count % self._every == 0:  # before the frame is passed on: the writer asks for it
                damaged = self._reader.damaged + self.damaged_before
                self._checkpoints[count] = self.checkpoint(count, frame, self.scene.state(), damaged)
            yield frame

    def checkpoint(self, count: int, frame: Frame, state: TrackerState, damaged: int) -> Checkpoint:
        """Return where the render stands after a frame, the ``count``-th."""
        from rtstyle.render.journal import Checkpoint
        from rtstyle.video.samples import planes_digest

        return Checkpoint(count, frame.pts, planes_digest(frame.planes), damaged, state)
