"""Video files: VideoReader gives frames, VideoWriter takes them, every other stream is copied.

All times are those of the container, all samples those of the decoder; tags of colour travel along.

    samples     between PyAV's frames and ours
    reader      VideoReader
    formats     which encoder and container go together, and what may be written where
    encoder     frames -> packets of one stream
    copies      everything beside the picture
    writer      VideoWriter
"""

from rtstyle.video.formats import EncoderSettings, check_file_output, check_output, free_name
from rtstyle.video.reader import VideoReader
from rtstyle.video.samples import colour_of, planes_of
from rtstyle.video.writer import VideoWriter

__all__ = [
    "EncoderSettings",
    "VideoReader",
    "VideoWriter",
    "check_file_output",
    "check_output",
    "colour_of",
    "free_name",
    "planes_of",
]
