"""The canvas: what strokes are drawn from, where it lies below a frame, and how its strokes are steered."""

from rtstyle.canvas.noise import TILE, TILE_SEED, CanvasCutter, make_tile, tile
from rtstyle.canvas.tracker import CanvasTracker, TrackerState

__all__ = ["TILE", "TILE_SEED", "CanvasCutter", "CanvasTracker", "TrackerState", "make_tile", "tile"]
