"""The canvas: what strokes are drawn from, where it lies below a frame, and how its strokes are steered."""

from rtstyle.canvas.tracker import TILE, TILE_SEED, CanvasCutter, CanvasTracker, TrackerState, make_tile, tile

__all__ = ["TILE", "TILE_SEED", "CanvasCutter", "CanvasTracker", "TrackerState", "make_tile", "tile"]
