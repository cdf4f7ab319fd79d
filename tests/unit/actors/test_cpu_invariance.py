"""Products never see fewer rows than CPUs compute exactly; tests/stack/test_exact_products.py holds
that to be true of this machine's processor."""

import torch

from actors.cpu_invariance import LEAST_ROWS, with_enough_rows


def test_shapes_stay_and_the_product_never_sees_few_rows():
    seen = []

    def product(x):
        seen.append(x.numel() // x.shape[-1])
        return torch.cat([x, x], -1)

    for shape in ((1, 6), (3, 1, 6), (2, 2, 6), (9, 6), (0, 6)):
        x = torch.rand(shape)
        assert torch.equal(with_enough_rows(product, x), torch.cat([x, x], -1))
    assert min(n for n in seen if n) == LEAST_ROWS
