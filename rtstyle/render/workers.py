"""Opens the workers that the options of a render ask for."""

from __future__ import annotations

from rtstyle.errors import SettingError
from rtstyle.render.cluster import RayPool
from rtstyle.render.plan import RenderOptions
from rtstyle.render.pool import LocalPool, Pool


def open_pool(options: RenderOptions, device: str | None) -> Pool | None:
    """Return the workers that the options ask for; None: none.

    Args:
        device: Of the engine's settings; several, separated by commas, are one worker each.

    Raises:
        BackendUnavailableError: There is no such cluster, or Ray is not installed.
        SettingError: Several devices, and a cluster.
    """
    devices = [word.strip() for word in (device or "").split(",") if word.strip()]
    if options.cluster:
        if len(devices) > 1:
            raise SettingError("several devices are for this machine: leave --cluster out, or name one device")
        return RayPool(options.cluster, slots=options.slots)
    if options.jobs or len(devices) > 1:
        return LocalPool(options.jobs or len(devices), devices=devices)
    return None
