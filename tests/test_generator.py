"""The network in torch: packing, and the identity at the start."""

import pytest

torch = pytest.importorskip("torch")

from rtstyle.generator import SHAPES, Generator, pack, unpack  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_starts_at_the_identity():
    for canvas in (16, 40):
        style = Generator(canvas=canvas)(torch.randn(1, 24, 8, 8), torch.randn(1, canvas, 8, 8))
        assert style.abs().max() == 0


def test_size_is_the_one_of_the_design():
    default, fast = (Generator(*SHAPES[name], canvas=40) for name in ("default", "fast"))
    assert 280_000 < sum(p.numel() for p in default.parameters()) < 290_000
    assert 75_000 < sum(p.numel() for p in fast.parameters()) < 80_000


def test_pack_puts_each_plane_in_row_order_and_unpack_undoes_it():
    y = torch.arange(64.0).view(1, 1, 8, 8)
    u, v = torch.arange(16.0).view(1, 1, 4, 4) + 100, torch.arange(16.0).view(1, 1, 4, 4) + 200
    packed = pack(y, u, v)
    assert packed.shape == (1, 24, 2, 2)
    assert packed[0, :16, 0, 1].tolist() == [y[0, 0, r, 4 + c].item() for r in range(4) for c in range(4)]
    assert packed[0, 16:, 1, 0].tolist() == [108, 109, 112, 113, 208, 209, 212, 213]
    assert all(torch.equal(a, b) for a, b in zip(unpack(packed), (y, u, v), strict=True))
