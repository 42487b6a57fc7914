"""An interrupted render continues only with what it was begun with: the same input, style, settings and engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rtstyle.backends import BackendName, EngineSettings, Precision
from rtstyle.errors import SettingError
from rtstyle.style import Style, read_style_json
from rtstyle.style_folder import read_trunk

if TYPE_CHECKING:
    from rtstyle.render.journal import Journal
    from rtstyle.video.formats import Encoding


def digest_of(style: Style) -> str:
    """Return what distinguishes a style's weights from others."""
    digest = blake2b(digest_size=16)
    for folder, share in style.folders:
        digest.update(read_trunk(folder))
        network = read_style_json(folder)
        digest.update(json.dumps([network.get(entry) for entry in ("canvas", "tone")], sort_keys=True).encode())
        digest.update(str(share).encode())
    return digest.hexdigest()


def refuse_other(journal: Journal, asked: dict[str, Any], target: Path) -> None:
    """Compare what is asked with what an interrupted render was made with."""
    for name, now in json.loads(json.dumps(asked)).items():
        then = journal.settings.get(name)
        if then != now:
            raise SettingError(
                f"cannot resume {target}: {name} was {json.dumps(then)} and is {json.dumps(now)} now; "
                "give the same again, or -y (--overwrite) without --resume to start over"
            )


def same_engine(journal: Journal, engine: EngineSettings, target: Path) -> EngineSettings:
    """Return the settings with the backend and precision of the interrupted render: others give other pixels."""
    backends, precisions = get_args(BackendName), get_args(Precision)
    had: Any = tuple(journal.settings.get(name) for name in ("backend", "precision"))
    if had[0] not in backends or had[1] not in precisions:
        raise SettingError(f"cannot resume {target}: its journal names no engine; start over with -y (--overwrite)")
    for asked, then in zip((engine.backend, engine.precision), had, strict=True):
        if asked not in ("auto", then):
            raise SettingError(f"cannot resume {target} with {asked}: it was begun with {' '.join(had)}")
    return replace(engine, backend=had[0], precision=had[1])


def same_encoding(journal: Journal, encoding: Encoding, target: Path) -> Encoding:
    """Return the encoding that an interrupted render was begun with, which may have another preset.

    Raises:
        SettingError: It has options that this release gives no encoder.
    """
    from rtstyle.video.codecs import ENCODERS

    presets = ENCODERS[encoding.codec].presets.values()
    then = journal.settings.get("options")
    for options in (encoding.options, *(encoding.options | dict(preset) for preset in presets)):
        if options == then:
            return replace(encoding, options=options)
    raise SettingError(f"cannot resume {target}: its encoder had other options; start over with -y (--overwrite)")


def identity_of(files: Sequence[Path]) -> dict[str, Any]:
    """Return what distinguishes one input from another.

    Of one file its length, and a digest of its first and last mebibyte; of a sequence of images their number, and a
    digest of their names and lengths.
    """
    digest = blake2b(digest_size=16)
    lengths = [path.stat().st_size for path in files]
    if len(files) == 1:
        edge = 1 << 20
        with files[0].open("rb") as file:
            digest.update(file.read(edge))
            file.seek(max(0, lengths[0] - edge))
            digest.update(file.read(edge))
    else:
        for path, length in zip(files, lengths, strict=True):
            digest.update(f"{path.name} {length}\n".encode())
    return {"files": len(files), "bytes": sum(lengths), "digest": digest.hexdigest()}
