"""Does what a live session is asked for: every command, from wherever it comes, ends here."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rtstyle.actions import (
    Action,
    BlendSet,
    ColorStrengthSet,
    Command,
    DelaySet,
    FadeSet,
    Learn,
    MaskSet,
    ModulationSet,
    PresetChosen,
    SizeClassSet,
    SplitSet,
    StrengthSet,
    StrokeSizeSet,
    StyleChosen,
    SwitchSet,
    TempoSet,
    target_of,
)
from rtstyle.errors import RtstyleError
from rtstyle.frame import Frame
from rtstyle.live.control.presets import ShowFile
from rtstyle.live.deflicker import Deflicker
from rtstyle.live.denoise import Denoiser
from rtstyle.live.fanout import Fanout
from rtstyle.live.images import save_snapshot
from rtstyle.live.look import Look
from rtstyle.live.masks import SessionMask
from rtstyle.live.sinks.sink import Sink
from rtstyle.live.styles import FADE, Styles

STRENGTH_STEP = 0.1
"""What one press of + or - adds to the strength or takes away."""

RECORDING = "recording"
"""Name of the branch that the key r ends and begins."""

LONGEST_DELAY_MS = 2000.0


class Desk:
    """The settings of a session that commands change, and what commands do beside.

    Args:
        tell: Called with each line to print.
        record: Opens a new recording, for the key r; called in another thread.
        show: Presets, fade and cycle.
        view: Returns the frame that a snapshot is to hold; None while there is none.
    """

    def __init__(
        self,
        styles: Styles,
        fanout: Fanout,
        look: Look,
        show: ShowFile,
        tell: Callable[[str], None],
        record: Callable[[], Sink] | None,
        view: Callable[[], Frame | None],
    ) -> None:
        self.styles, self.look, self.show = styles, look, show
        self._fanout, self._tell, self._record, self._view = fanout, tell, record, view
        self.quit = self.paused = self.mirror = self.help = False
        self.figures = True
        self.split: float | None = None
        """Left of this share of the width, views show the source; None: nowhere."""
        self.mask: SessionMask | None = None
        """Where in the frame the style counts; None: nothing can be chosen."""
        self.denoiser: Denoiser | None = None
        self.deflicker: Deflicker | None = None
        self.size_class = "auto"
        self.stroke_size: float | None = None
        """As asked for; None: as the session began."""
        self.preset: str | None = None
        self.cycling = show.cycle is not None and bool(show.presets)
        self.learn: Callable[[Learn | None], None] | None = None
        """Passes a command to the MIDI input that is to be bound; None: there is no MIDI input."""
        self._learning = False
        self.warnings: list[str] = []
        self.message: tuple[str, float] = ("", 0.0)
        """A line to show, and until when."""
        self._fade = styles.fade = FADE if show.fade is None else show.fade  # of presets that have none of their own
        self._cycle_at = time.perf_counter()
        self._background = ThreadPoolExecutor(1, "background")
        self._jobs: list[Future[str]] = []
        self._opening: Future[str] | None = None  # the last recording that was begun
        self._recording_since: float | None = None

    # -- lines

    def note(self, line: str) -> None:
        """Show a line for a while."""
        self.message = (line, time.perf_counter() + 3)

    def warn(self, line: str) -> None:
        """Keep a warning for the report, print it, and show it for a while."""
        self.warnings.append(line)
        self.note(line)
        self._tell(line)

    # -- commands

    def do(self, command: Command) -> bool:
        """Do what is asked for. True if the frame changes by it."""
        if self._learning and command not in (Action.LEARN, Action.QUIT, Action.HELP, Action.HUD):
            self._learn_target(command)
        match command:
            case Action():
                return self._act(command)
            case SwitchSet(action, on):
                return self._is_on(action) != on and self._act(action)
            case StyleChosen(style):
                self.note(self.styles.choose(style))
            case PresetChosen(preset):
                return self._choose_preset(preset)
            case Learn():
                self._learn(command)
            case ModulationSet(texts):
                self._modulate(texts)
                return True
            case _:
                return self._set(command)
        return False

    def _set(self, command: Command, seconds: float = 0.0) -> bool:
        """Set a value, within so many seconds where it can glide."""
        now = time.perf_counter()
        match command:
            case StrengthSet(strength):
                self.look.set_strength(strength, now, seconds)
            case ColorStrengthSet(share):
                self.look.set_color(share, now, seconds)
            case BlendSet(share, style):
                if style:
                    self.note(self.styles.mix_in(style))
                elif self.styles.second is None and share:
                    self.note("there is no second style to mix in")
                self.look.set_blend(share, now, seconds)
            case SplitSet(share):
                self.split = None if share is None else min(max(share, 0.0), 1.0)
            case MaskSet(mask):
                self._choose_mask(mask)
            case SizeClassSet(size_class):
                self.size_class = size_class
            case StrokeSizeSet(stroke_size):
                self.stroke_size = stroke_size
            case FadeSet(fade):
                self._fade = self.styles.fade = min(max(fade, 0.0), 30.0)
                return False
            case TempoSet(bpm):
                self.look.modulation.clock.set_tempo(bpm, now)
                return False
            case DelaySet(milliseconds):
                self._fanout.delay = min(max(milliseconds, 0.0), LONGEST_DELAY_MS) / 1000
                return False
        return True

    def _act(self, action: Action) -> bool:
        now = time.perf_counter()
        match action:
            case Action.QUIT:
                self.quit = True
            case Action.PAUSE:
                self.paused = not self.paused
            case Action.NEXT_STYLE | Action.PREVIOUS_STYLE:
                self.note(self.styles.step(1 if action is Action.NEXT_STYLE else -1))
            case Action.NEXT_PRESET:
                return self.next_preset()
            case Action.CYCLE:
                self.cycling = not self.cycling and bool(self.show.presets)
                self._cycle_at = now
                self.note(f"cycle {'on' if self.cycling else 'off'}")
            case Action.BEAT:
                self.look.modulation.clock.beat(now)
                bpm = self.look.modulation.clock.bpm
                self.note(f"{bpm:.0f} beats per minute" if bpm else "tap again for a tempo")
            case Action.LEARN:
                self._begin_to_learn()
            case Action.SNAPSHOT:
                self._snapshot()
            case Action.RECORD:
                self._toggle_recording()
            case Action.HUD:
                self.figures = not self.figures
            case Action.HELP:
                self.help = not self.help
            case _:
                return self._change_look(action, now)
        return False

    def _change_look(self, action: Action, now: float) -> bool:
        """Do what changes the frame; True."""
        look = self.look
        match action:
            case Action.STRONGER | Action.WEAKER:
                step = STRENGTH_STEP if action is Action.STRONGER else -STRENGTH_STEP
                look.set_strength(round(look.strength.target + step, 2), now)
                self.note(f"strength {look.strength.target:.1f}")
            case Action.KEEP_COLORS:
                look.keep_colors(not look.keeps_colors, now)
                self.note(f"colors {'of the source' if look.keeps_colors else 'of the style'}")
            case Action.MIRROR:
                self.mirror = not self.mirror
                self.note(f"mirror {'on' if self.mirror else 'off'}")
            case Action.SPLIT:
                self.split = None if self.split is not None else 0.5
            case Action.MASK:
                self._choose_mask(None)
            case Action.BYPASS:
                look.bypassed = not look.bypassed
                self.note(f"bypass {'on' if look.bypassed else 'off'}")
            case Action.BLACKOUT:
                look.blacked_out = not look.blacked_out
                self.note(f"blackout {'on' if look.blacked_out else 'off'}")
            case Action.HOLD:
                self.denoiser = None if self.denoiser else Denoiser()
                self.note(f"hold {'on' if self.denoiser else 'off'}")
            case Action.DEFLICKER:
                self.deflicker = None if self.deflicker else Deflicker()
                self.note(f"deflicker {'on' if self.deflicker else 'off'}")
            case Action.CROSSFADE:
                self.styles.crossfade = not self.styles.crossfade
                self.note(f"crossfade {'on' if self.styles.crossfade else 'off'}")
        return True

    def _choose_mask(self, word: str | None) -> None:
        if self.mask is not None:
            self.note(self.mask.choose(word))

    def _is_on(self, action: Action) -> bool:
        """Return how one of ``SWITCHES`` stands."""
        opening = self._opening is not None and not self._opening.done()
        return {
            Action.PAUSE: self.paused,
            Action.KEEP_COLORS: self.look.keeps_colors,
            Action.CROSSFADE: self.styles.crossfade,
            Action.HOLD: self.denoiser is not None,
            Action.DEFLICKER: self.deflicker is not None,
            Action.MIRROR: self.mirror,
            Action.BYPASS: self.look.bypassed,
            Action.BLACKOUT: self.look.blacked_out,
            Action.CYCLE: self.cycling,
            Action.RECORD: bool(self.recordings()) or opening,
        }[action]

    # -- presets and what changes by itself

    def _choose_preset(self, preset: str | int) -> bool:
        names = self.show.names
        if isinstance(preset, int) and 0 <= preset < len(names):
            preset = names[preset]
        if preset not in names:
            self.note(f"there is no preset {preset}")
            return False
        chosen = self.show.presets[names.index(str(preset))]
        self.styles.fade = self._fade if chosen.fade is None else chosen.fade
        self._cycle_at = time.perf_counter()
        for command in chosen.commands:
            match command:
                case StrengthSet() | ColorStrengthSet() | BlendSet():
                    self._set(command, self.styles.fade)
                case _:
                    self.do(command)
        self.preset = chosen.name
        self.note(chosen.name)
        return True

    def next_preset(self) -> bool:
        """Choose the preset behind the last one. True if there is one."""
        names = self.show.names
        if not names:
            self.note("there are no presets")
            return False
        return self._choose_preset((names.index(self.preset) + 1) % len(names) if self.preset in names else 0)

    def go_on(self, now: float) -> bool:
        """Do what is due by itself: the cycle of presets, and steps of the modulation. True if the frame changes."""
        changed = False
        if self.cycling and self.show.cycle and now - self._cycle_at >= self.show.cycle:
            changed = self.next_preset()
        for target in self.look.modulation.steps(now):
            changed |= self.do(Action.NEXT_PRESET if target == "preset" else Action.NEXT_STYLE)
        return changed

    def _modulate(self, texts: tuple[str, ...]) -> None:
        try:
            self.look.modulation.set(texts)
        except RtstyleError as error:
            self.warn(str(error))

    # -- MIDI learn

    def _begin_to_learn(self) -> None:
        if self.learn is None:
            self.note("there is no MIDI input: start with --midi")
            return
        self._learning = not self._learning
        self.learn(None)
        self.note("MIDI learn: press the key to bind" if self._learning else "MIDI learn is off")

    def _learn_target(self, command: Command) -> None:
        self._learning = False
        try:
            self._learn(Learn(*target_of(command)))
        except ValueError as error:
            self.note(str(error))

    def _learn(self, target: Learn) -> None:
        if self.learn is None:
            self.note("there is no MIDI input: start with --midi")
            return
        self.learn(target)
        self.note(f"MIDI learn: move the control for {target.word.replace('_', ' ')}")

    # -- snapshots and recordings

    def _snapshot(self) -> None:
        frame = self._view()
        if frame is None:
            return

        def save() -> str:
            return f"saved {save_snapshot(frame, Path.cwd())}"

        self._jobs.append(self._background.submit(save))

    def recordings(self) -> list[str]:
        """Return the names of the recordings that run."""
        return [name for name in self._fanout.names if name.partition(" ")[0] == RECORDING]

    def recorded_seconds(self, now: float) -> float:
        """Return for how long the recording has run; 0 where none does."""
        if not self.recordings():
            self._recording_since = None
            return 0.0
        self._recording_since = now if self._recording_since is None else self._recording_since
        return now - self._recording_since

    def _toggle_recording(self) -> None:
        running, record = self.recordings(), self._record
        for name in running:
            self._fanout.remove(name)
        if running:
            self.note("recording ends")
        elif record and (self._opening is None or self._opening.done()):

            def begin() -> str:
                self._fanout.add(RECORDING, record(), "all")
                return "recording"

            self._opening = self._background.submit(begin)
            self._jobs.append(self._opening)

    def finish_jobs(self) -> None:
        """Report what was done in the background: encoders and PNGs take longer than a frame."""
        while self._jobs and self._jobs[0].done():
            job = self._jobs.pop(0)
            try:
                line = job.result()
            except RtstyleError as error:
                # The session continues: what may be being recorded is worth more than the snapshot.
                self.warn(str(error))
            else:
                self.note(line)
                self._tell(line)

    def close(self) -> None:
        """Wait for what is done in the background, and report it."""
        self._background.shutdown(wait=True)
        self.finish_jobs()
