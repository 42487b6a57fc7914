"""The network in torch: folding, packing, and the identity at the start."""

import pytest

torch = pytest.importorskip("torch")

from rtstyle.generator import Generator, folded, pack, unpack  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def trained(seed: int = 0) -> Generator:
    """A generator with batch normalisation whose statistics and weights are not the initial ones."""
    torch.manual_seed(seed)
    generator = Generator(norm=True)
    for parameter in generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for _ in range(5):
        generator(torch.randn(2, 24, 16, 16), torch.randn(2, 16, 16, 16))
    return generator.eval()


def test_training_starts_at_the_identity():
    generator = Generator(norm=True)
    style = generator(torch.randn(1, 24, 8, 8), torch.randn(1, 16, 8, 8))
    assert style.abs().max() == 0


def test_size_is_the_one_of_the_design():
    assert 340_000 < sum(p.numel() for p in Generator().parameters()) < 360_000


def test_folded_equals_evaluation_and_has_no_normalisation_left():
    generator = trained()
    x, z = torch.randn(2, 24, 12, 20), torch.randn(2, 16, 12, 20)
    with torch.no_grad():
        want, got = generator(x, z), folded(generator)(x, z)
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(generator).modules())


def test_pack_puts_each_plane_in_row_order_and_unpack_undoes_it():
    y = torch.arange(64.0).view(1, 1, 8, 8)
    u, v = torch.arange(16.0).view(1, 1, 4, 4) + 100, torch.arange(16.0).view(1, 1, 4, 4) + 200
    packed = pack(y, u, v)
    assert packed.shape == (1, 24, 2, 2)
    assert packed[0, :16, 0, 1].tolist() == [y[0, 0, r, 4 + c].item() for r in range(4) for c in range(4)]
    assert packed[0, 16:, 1, 0].tolist() == [108, 109, 112, 113, 208, 209, 212, 213]
    assert all(torch.equal(a, b) for a, b in zip(unpack(packed), (y, u, v), strict=True))
