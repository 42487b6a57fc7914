"""Video files: VideoReader gives frames, VideoWriter takes them, every other stream is copied.

All times are those of the container, all samples those of the decoder; tags of color travel along.

    samples     between PyAV's frames and ours
    reader      VideoReader: times, ranges, continuing behind a frame
    inputs      what may be given as an input, and how it is opened
    decoder     the frames of one stream, through damage
    animation   sequences of stills, animated WebP
    filters     interlaced, HDR or changing frames made alike
    tone        HDR to SDR
    formats     which encoder and container go together, and what may be written where
    encoder     frames -> packets of one stream
    copies      everything beside the video
    writer      VideoWriter
"""

from rtstyle.video.formats import EncoderSettings, check_output
from rtstyle.video.reader import ReaderSettings, VideoReader
from rtstyle.video.samples import color_of, planes_of
from rtstyle.video.writer import VideoWriter

__all__ = [
    "EncoderSettings",
    "ReaderSettings",
    "VideoReader",
    "VideoWriter",
    "check_output",
    "color_of",
    "planes_of",
]
