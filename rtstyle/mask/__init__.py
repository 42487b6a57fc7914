"""Masks: where in a frame the style counts, and how much.

settings    what a mask is made of
file        a grey image or video as a mask
person      persons, found by a small network
face        the style weakened on faces
network     runs these networks
mix         source and stylized frame, mixed pixel by pixel
opening     settings -> mask

A mask is applied to the planes behind the engine, so that it is the same on every backend: the residual, stylized minus
source, is multiplied by the mask. Where that is 0 the bytes of the source stay.
"""

from __future__ import annotations

from rtstyle.mask.settings import MaskSettings

__all__ = ["MaskSettings"]
