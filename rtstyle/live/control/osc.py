"""Open Sound Control over UDP: an address such as /rtstyle/strength sets what the word of its end sets.

/rtstyle/WORD value    does what ``actions.read_command`` does with the word and the value
/rtstyle/get           answers the sender with /rtstyle/WORD value of everything
/rtstyle/get WORD      answers the sender with that one

Answers go to the address that asked, and with ``reply_port`` to that port of it, which TouchOSC listens on.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from rtstyle.actions import READABLE, Command, SessionState, check_names, read_command, value_of
from rtstyle.errors import ServerError, SettingError, reason_of

PREFIX = "/rtstyle/"

_QUIET = 5.0
"""Seconds between two warnings about messages that are not understood."""


def check_osc() -> None:
    """Refuse where python-osc is not installed.

    Raises:
        SettingError: The message states how to install it.
    """
    try:
        import pythonosc  # noqa: F401
    except ImportError as error:
        raise SettingError("OSC needs python-osc: pip install 'rtstyle[osc]'") from error


class OscServer:
    """Listens for OSC in a thread of its own. A context manager.

    Args:
        host: Address to listen on.
        port: 0 takes a free one.
        post: Takes the commands, in the thread.
        state: Returns what the session does; called in the thread.
        warn: Called with a line about a message that is not understood, every 5 s at most.
        reply_port: Answers go there; None: to the port that asked.

    Raises:
        SettingError: python-osc is not installed.
        ServerError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        post: Callable[[Command], None],
        state: Callable[[], SessionState],
        *,
        warn: Callable[[str], None],
        reply_port: int | None = None,
    ) -> None:
        check_osc()
        self._post, self._state, self._warn, self._reply_port = post, state, warn, reply_port
        self._warned = -_QUIET
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ServerError(f"cannot listen for OSC on {host} port {port}: {reason_of(error)}") from error
        self._socket.settimeout(0.2)
        self.port: int = self._socket.getsockname()[1]
        """The one that was bound."""
        self._thread = threading.Thread(target=self._listen, name="OSC", daemon=True)

    def _listen(self) -> None:
        # python-osc has servers of its own; they sleep until the time tag of a bundle, which may be in a year.
        from pythonosc.osc_packet import OscPacket, ParseError

        while not self._stop.is_set():
            try:
                data, client = self._socket.recvfrom(65536)
                messages = [timed.message for timed in OscPacket(data).messages]
            except TimeoutError:
                continue
            except OSError as error:  # as where an answer was refused
                self._complain(f"OSC: {reason_of(error)}")
                continue
            except (ParseError, ValueError, RecursionError):
                self._complain("OSC: a message is damaged")
                continue
            for message in messages:
                if message.address == f"{PREFIX}get":
                    self._answer(client, message.params)
                else:
                    self._take(message.address, message.params)

    def _take(self, address: str, values: list[Any]) -> None:
        word = address.removeprefix(PREFIX)
        try:
            if word == address:
                raise ValueError(f"{address[:100]} does not begin with {PREFIX}")
            command = read_command(word, _value(values))
            state = self._state()
            check_names(command, state.styles, state.presets)
        except ValueError as error:
            self._complain(f"OSC: {error}")
            return
        if command is not None:
            self._post(command)

    def _answer(self, client: tuple[Any, ...], values: list[Any]) -> None:
        state = self._state()
        for word in [word for word in READABLE if word in values] or READABLE:
            value = value_of(state, word)
            self._reply(client, word, "" if value is None else value)

    def _reply(self, client: tuple[Any, ...], word: str, value: Any) -> None:
        from pythonosc.osc_message_builder import OscMessageBuilder

        message = OscMessageBuilder(f"{PREFIX}{word}")
        message.add_arg(float(value) if type(value) in (int, float) else value)
        target = client[0], self._reply_port or client[1]
        try:
            self._socket.sendto(message.build().dgram, target)
        except OSError as error:
            self._complain(f"OSC: cannot answer {target[0]} port {target[1]}: {reason_of(error)}")

    def _complain(self, line: str) -> None:
        now = time.monotonic()
        if now - self._warned >= _QUIET:
            self._warned = now
            self._warn(line)

    def __enter__(self) -> Self:
        logging.getLogger().addFilter(_is_not_of_osc)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        logging.getLogger().removeFilter(_is_not_of_osc)


def _is_not_of_osc(record: logging.LogRecord) -> bool:
    """Keep python-osc from logging each damaged message, on the root logger, where anyone could fill a disk."""
    return "pythonosc" not in record.pathname


def _value(values: list[Any]) -> Any:
    """Return one value as it is, none as None, several as a list."""
    return values[0] if len(values) == 1 else values or None


def parse_osc_address(text: str) -> tuple[str, int]:
    """Read PORT or HOST:PORT; the host is loopback by default.

    Raises:
        SettingError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not int(port) < 65536:
        raise SettingError(f"--osc takes PORT or HOST:PORT, as 9000 or 0.0.0.0:9000; got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)
