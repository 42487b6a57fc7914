"""How the shipped paintings are painted in code: the manners that ``rtstyle.universal.painting`` is given."""

from rtstyle.canvas.steering import Steering, Stream
from rtstyle.canvas.strokes import Brush
from rtstyle.universal.painting import Manner

MANNERS = {
    "picture": Manner(
        steering=Steering(Brush(length=24, width=5, seed=5), Stream(kind="waves", sway=0.4)),
        gain=0.16,
        relief=0.09,
        noise=2.2,
        sharp=5,
        purity=1.2,
        glow=0,
    ),
    "starry_night": Manner(
        steering=Steering(Brush(length=24, width=5, crisp=1, seed=4), Stream(kind="whirls", angle=172)),
        mix=0.9,
        gain=0.27,
        glow=0.5,
        blur=3,
    ),
    "the_scream": Manner(
        steering=Steering(
            Brush(
                length=110, width=6.5, spread=0.25, bend=0.002, band=64, scales=(1.0, 0.5, 0.26), directions=36, seed=8
            ),
            Stream(kind="waves", sway=0.55, waves=2),
        ),
        gain=0.2,
        relief=0.1,
        noise=2.4,
        keep=5,
        sharp=5,
        purity=1.2,
        glow=0,
        blur=3,
    ),
    "water_lilies": Manner(
        steering=Steering(
            Brush(length=19, width=8, cover=2.2, crisp=1.25, band=90, seed=9), Stream(kind="level", sway=0.2)
        ),
        gain=0.17,
        relief=0.08,
        mix=0.9,
        noise=2.8,
        keep=6,
        sharp=6,
        purity=1.3,
        glow=0,
        outline=0.08,
        detail=0.15,
        blur=3,
    ),
    "great_wave": Manner(
        steering=Steering(
            Brush(length=64, width=3.4, spread=0.3, bend=0.006, crisp=1, band=80, scales=(1.0, 0.7, 0.5), seed=10),
            Stream(kind="waves", sway=0.5, waves=3),
        ),
        gain=0.09,
        relief=0.02,
        noise=1.6,
        keep=8,
        sharp=5,
        purity=1.3,
        glow=0,
        outline=0.85,
        pen=(1.3, 4.2, 24.0),
        ink=(0.11, 0.165, 0.33),
        steps=5,
        clusters=3,
        levels=10,
        blur=3,
    ),
    "composition_vii": Manner(
        steering=Steering(
            Brush(
                length=44,
                width=17,
                cover=2.4,
                spread=0.45,
                jitter=0.5,
                bend=0.012,
                bristles=0.25,
                crisp=1,
                band=22,
                scales=(1.0, 0.6, 0.36),
                seed=14,
            ),
            Stream(kind="whirls", whirls=28, radius=(30.0, 80.0), lights=0.8, angle=20, sway=0.8),
        ),
        gain=0.26,
        relief=0.18,
        calm=0.97,
        settle=2.5,
        own=5.0,
        mix=0.8,
        noise=4.2,
        keep=3.5,
        sharp=9,
        purity=1.4,
        glow=0.15,
        detail=0.2,
        outline=0.65,
        pen=(1.2, 3.6, 20.0),
        ink=(0.07, 0.06, 0.09),
        clusters=6,
        blur=3,
    ),
}
"""By name; ``picture`` is a plain one for any image."""
