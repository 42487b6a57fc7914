"""The program that carries a stream to the network: it sends its standard input to a URL, packet by packet.

It is a process of its own and imports nothing of rtstyle. PyAV holds Python's lock while it connects, and a peer
that stops reading blocks the writer: here neither can stop anything but this process, which ends itself
when one step takes longer than it may, and which can be killed.

First line of the input: JSON with url, format, options, timeout (seconds) and overwrite (segments of HLS). Then NUT.
On standard output: ``on`` when the peer has accepted; ``off`` and a reason when it is over.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any

import av


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """End the process where a step takes longer; a thread of C does, which needs no lock of Python's."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _open_plain(url: str, flags: int, options: dict[str, str], *, overwrite: bool = False) -> IO[bytes]:
    """Open a file that FFmpeg's HLS muxer writes: a new one, never what a link of that name leads to.

    Args:
        overwrite: True replaces an ordinary file that exists.

    Raises:
        OSError: There is a link, a device or a file of that name, or the folder may not be written.
    """
    way = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL) | getattr(os, "O_BINARY", 0)
    way |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe waits for a reader
    handle = os.open(url.removeprefix("file:"), way, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PermissionError(f"{url} is no ordinary file")
    return os.fdopen(handle, "wb")


def relay(url: str, format: str, options: dict[str, str], *, timeout: float, overwrite: bool) -> None:
    """Pass the standard input on to ``url`` until it ends.

    Raises:
        av.FFmpegError, OSError, ValueError: The peer refuses or has gone.
    """
    # All is in the header: nothing has to be probed, so nothing waits.
    known = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
    with av.open("pipe:0", "r", format="nut", options=known) as source:
        with _deadline(timeout):
            own = partial(_open_plain, overwrite=overwrite) if format == "hls" and "://" not in url else None
            target = av.open(url, "w", format=format, container_options=options, io_open=own)
            streams: list[Any] = [target.add_stream_from_template(stream) for stream in source.streams]
            target.start_encoding()
        print("on", flush=True)
        for packet in source.demux():
            if not packet.size:
                continue
            if packet.dts is None:  # NUT does not store it of the first; there are no B-frames
                packet.dts = packet.pts
            packet.stream = streams[packet.stream_index]
            with _deadline(timeout):
                target.mux(packet)
        with _deadline(timeout):
            target.close()


def send_from_stdin() -> int:
    """Read the order, carry it out, report how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for rtstyle, which then ends the stream
    with open(0, "rb", buffering=0, closefd=False) as pipe:  # unbuffered: what follows is FFmpeg's
        order = json.loads(pipe.readline())
    try:
        relay(**order)
    except (av.FFmpegError, OSError, ValueError) as error:
        print(f"off {getattr(error, 'strerror', None) or error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(send_from_stdin())
