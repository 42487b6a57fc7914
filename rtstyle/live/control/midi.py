"""MIDI: knobs, faders and pads as commands, bound by moving them; MIDI clock as tempo.

Without a map of the user's own, program changes choose presets (styles where there are none), notes from 36 on choose
styles, and controllers 1, 2, 3 and 4 set strength, color strength, blend and split.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import platformdirs

from rtstyle.actions import BUTTONS, NUMBERS, SWITCHES, Command, Learn, SessionState, check_names, read_command
from rtstyle.errors import SettingError, reason_of

if TYPE_CHECKING:
    from mido import Message

CLOCKS_PER_BEAT = 24
"""MIDI 1.0: timing clocks in a quarter note."""

_FIRST_PAD = 36
"""Note of the first pad of most drum controllers."""

_DEFAULTS: dict[str, tuple[str, Any]] = {
    "control 1": ("strength", None),
    "control 2": ("color_strength", None),
    "control 3": ("blend", None),
    "control 4": ("split", None),
    **{f"note {_FIRST_PAD + place}": ("style", place) for place in range(10)},
}


def map_file() -> Path:
    """Return the file of the user's own bindings."""
    return Path(platformdirs.user_config_dir("rtstyle", appauthor=False)) / "midi.json"


def check_midi() -> None:
    """Refuse where mido or python-rtmidi is not installed.

    Raises:
        SettingError: The message states how to install them.
    """
    try:
        import mido  # noqa: F401
        import rtmidi  # noqa: F401
    except ImportError as error:
        raise SettingError("MIDI needs mido and python-rtmidi: pip install 'rtstyle[midi]'") from error


class MidiMap:
    """What each MIDI control does. Channels are not distinguished.

    Args:
        path: Where bindings are read from and written to; it need not exist.

    Raises:
        SettingError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bindings: dict[str, tuple[str, Any]] = dict(_DEFAULTS)
        """The word and value of each control, by its name, as ``control 7`` or ``note 36``; a value of None is the
        position of the control."""
        try:
            told = json.loads(path.read_text("utf-8"))
            self.bindings |= {str(control): (word, value) for control, (word, value) in told.items()}
            for word, value in self.bindings.values():
                read_command(word, self._at(word, 1.0) if value is None else value)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SettingError(f"cannot read MIDI bindings from {path}: {reason_of(error)}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingError(f"{path} holds no MIDI bindings: {error}; remove it to begin again") from error

    def bind(self, control: str, word: str, value: Any) -> None:
        """Bind a control and write the file.

        Raises:
            SettingError: The file cannot be written; the binding holds for this session.
        """
        self.bindings[control] = word, value
        own = {name: bound for name, bound in self.bindings.items() if _DEFAULTS.get(name) != bound}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            partial.write_text(json.dumps(own, indent=1), "utf-8")
            partial.replace(self._path)
        except OSError as error:
            raise SettingError(f"cannot keep MIDI bindings in {self._path}: {reason_of(error)}") from error

    def command_of(self, control: str, position: float, *, pad: bool) -> Command | None:
        """Return what a control asks for; None where it is not bound, or was let go.

        Args:
            position: 0 to 1.
            pad: It is pressed and released; else it is moved.

        Raises:
            ValueError: The binding is none any more.
        """
        if control not in self.bindings:
            return None
        word, value = self.bindings[control]
        if value is None:
            if pad and word in SWITCHES:  # a pad changes over; a fader is on in its upper half
                return SWITCHES[word][0] if position else None
            return read_command(word, self._at(word, position))
        return read_command(word, value) if position >= (0.5 if not pad else 1e-9) else None

    @staticmethod
    def _at(word: str, position: float) -> Any:
        """Return the value of a word at a position of its control."""
        if word in NUMBERS:
            least, largest, _ = NUMBERS[word]
            return least + position * (largest - least)
        return position >= 0.5 if word in SWITCHES or word in BUTTONS else round(position * 127)


class MidiInput:
    """Listens to one MIDI input, in a thread of the MIDI library. A context manager.

    Args:
        name: Of the input, or a part of it; empty: the first one.
        bindings: What controls do.
        post: Takes the commands.
        state: Returns what the session does.
        beat: Takes the moments of beats, in seconds of ``time.perf_counter()``.
        warn: Called with lines to print.

    Raises:
        SettingError: mido or python-rtmidi is not installed, or there is no such input; names those that there are.
    """

    def __init__(
        self,
        name: str,
        bindings: MidiMap,
        post: Callable[[Command], None],
        state: Callable[[], SessionState],
        *,
        beat: Callable[[float], None],
        warn: Callable[[str], None],
    ) -> None:
        self._bindings, self._post, self._state, self._beat, self._warn = bindings, post, state, beat, warn
        self._name = name
        self._clocks = 0
        self._learning: Learn | None = None
        self.name = ""
        """Of the input that was opened."""

    def learn(self, what: Learn | None) -> None:
        """Bind the next control that is moved; None: no longer."""
        self._learning = what

    def take(self, message: Message, at: float) -> None:
        """Do what a message asks for.

        Args:
            at: When it came, in seconds of ``time.perf_counter()``.
        """
        if message.type == "clock":
            if self._clocks % CLOCKS_PER_BEAT == 0:
                self._beat(at)
            self._clocks += 1
        elif message.type in ("start", "continue"):
            self._clocks = 0
        elif message.type == "program_change":
            state = self._state()
            self._ask("preset" if state.presets else "style", message.program)
        elif message.type == "control_change":
            self._moved(f"control {message.control}", message.value / 127, pad=False)
        elif message.type in ("note_on", "note_off"):
            pressed = message.type == "note_on" and message.velocity > 0
            self._moved(f"note {message.note}", message.velocity / 127 if pressed else 0.0, pad=True)

    def _moved(self, control: str, position: float, *, pad: bool) -> None:
        learning = self._learning
        if learning and position:
            self._learning = None
            try:
                self._bindings.bind(control, learning.word, learning.value)
            except SettingError as error:
                self._warn(str(error))
            self._warn(f"MIDI {control} is bound to {learning.word}")
            return
        try:
            command = self._bindings.command_of(control, position, pad=pad)
            check_names(command, self._state().styles, self._state().presets)
        except ValueError as error:
            self._warn(f"MIDI {control}: {error}")
            return
        if command is not None:
            self._post(command)

    def _ask(self, word: str, value: Any) -> None:
        try:
            command = read_command(word, value)
            check_names(command, self._state().styles, self._state().presets)
        except ValueError as error:
            self._warn(f"MIDI: {error}")
            return
        if command is not None:
            self._post(command)

    def __enter__(self) -> Self:
        check_midi()
        import mido
        import rtmidi

        try:
            names = list(dict.fromkeys(mido.get_input_names()))
            found = next((name for name in names if self._name.casefold() in name.casefold()), None)
            if found is None:
                what = f"no MIDI input is called {self._name!r}" if self._name else "there is no MIDI input"
                raise SettingError(f"{what}; found on this machine: {', '.join(names) or 'none'}")
            self._port = mido.open_input(found, callback=lambda message: self.take(message, time.perf_counter()))
        except (OSError, rtmidi.RtMidiError, rtmidi.SystemError) as error:
            raise SettingError(f"MIDI cannot be used: {' '.join(str(error).split())}") from error
        self.name = found
        return self

    def __exit__(self, *_: object) -> None:
        self._port.close()
