"""The canvas follows the camera through a whole film, and through one that is gone on with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rtstyle.canvas.follower import SceneFollower
from rtstyle.errors import VideoOpenError
from rtstyle.frame import Frame

if TYPE_CHECKING:
    from rtstyle.video import VideoReader
    from rtstyle.video.journal import Mark


class CameraFollower:
    """Moves the canvas along with the camera, from the first frame or from a mark.

    Args:
        every: After so many frames, again and again, it notes where the render stands.
        steered: Whether the style draws on a steered canvas.
        mark: Where an earlier run stood; this one goes on behind that frame, exactly as that one would have.
    """

    def __init__(self, reader: VideoReader, *, every: int, steered: bool, mark: Mark | None = None) -> None:
        self._reader, self._every, self._from = reader, every, mark
        self._scene = SceneFollower(steered=steered)
        self._marks: dict[int, Mark] = {}
        self.damaged_before = 0
        """Damage that an earlier run found and this one does not meet again."""

    def mark_at(self, frames: int) -> Mark:
        """Return where the render stands after so many frames, a multiple of ``every``; once for each."""
        return self._marks.pop(frames)

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the reader's frames, each with its place on the canvas.

        Raises:
            VideoOpenError: The reader decodes to other pictures than the earlier run's.
        """
        from rtstyle.video.journal import Mark
        from rtstyle.video.samples import digest_of

        scene, count, skip = self._scene, 0, 0
        if self._from:
            scene.restore(self._from.canvas)
            count = self._from.frames
            if self._reader.resume_after(self._from.pts, self._from.digest):
                self.damaged_before = self._from.damaged
            else:
                skip = count
        for frame in frames:
            if skip:
                skip -= 1
                if not skip and self._from and digest_of(frame.planes) != self._from.digest:
                    raise VideoOpenError(
                        f"{self._reader.name} decodes to other pictures than when its render was begun: "
                        "--resume cannot go on with it, -y (--overwrite) without it begins anew"
                    )
                continue
            frame = scene.follow(frame)
            count += 1
            if count % self._every == 0:  # before the frame goes on: whoever ends a segment with it asks for the mark
                damaged = self._reader.damaged + self.damaged_before
                self._marks[count] = Mark(count, frame.pts, digest_of(frame.planes), damaged, scene.state())
            yield frame
