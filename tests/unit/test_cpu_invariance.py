import pytest
import torch

from actors.cpu_invariance import LEAST_ROWS, with_enough_rows


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("wide", [64, 384, 1176])
def test_a_row_is_the_same_in_any_company(rows, wide):
    """Exactly, where torch alone has kernels of its own for few rows (not true without the rows of
    zeros).
    """
    generator = torch.Generator().manual_seed(wide)
    x, weight = (
        torch.randn(64, wide, generator=generator),
        torch.randn(128, wide, generator=generator),
    )
    alone = with_enough_rows(lambda rows: torch.nn.functional.linear(rows, weight), x[:rows])
    together = torch.nn.functional.linear(x, weight)
    assert torch.equal(alone, together[:rows])


def test_shapes_stay_and_the_product_never_sees_few_rows():
    seen = []

    def product(x):
        seen.append(x.numel() // x.shape[-1])
        return torch.cat([x, x], -1)

    for shape in ((1, 6), (3, 1, 6), (2, 2, 6), (9, 6), (0, 6)):
        x = torch.rand(shape)
        assert torch.equal(with_enough_rows(product, x), torch.cat([x, x], -1))
    assert min(n for n in seen if n) == LEAST_ROWS
