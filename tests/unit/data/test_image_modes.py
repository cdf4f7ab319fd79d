"""Every kind of picture gives one agreed picture, whatever its mode."""

import numpy as np
import pytest
from PIL import Image

from geoagent_rl.data.images import BadImage, check_image, open_image

RAMP = np.linspace(0, 1, 256)[None, :].repeat(8, 0)
GRAY = np.round(RAMP * 255).astype(np.uint8)


def opened(path, image, **options):
    image.save(path, **options)
    check_image(path)
    return np.asarray(open_image(path))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sixteen.png", np.round(RAMP * 65535).astype(np.uint16)),
        ("sixteen.tif", np.round(RAMP * 65535).astype(np.uint16)),
        ("dark.png", np.round(RAMP * 65535).astype(np.uint16) // 300),
        ("unit.tif", RAMP.astype(np.float32)),
        ("bytes.tif", (RAMP * 255).astype(np.float32)),
        ("thousands.tif", (RAMP * 65535).astype(np.float32)),
    ],
)
def test_deep_pictures_are_scaled_not_cut_off(tmp_path, name, values):
    found = opened(tmp_path / name, Image.fromarray(values))
    expected = np.round(values / 257).astype(np.uint8) if name == "dark.png" else GRAY
    assert found.shape == (8, 256, 3) and np.abs(found - expected[..., None].astype(int)).max() <= 1


@pytest.mark.parametrize("bad", [np.nan, -5.0, 1e9])
def test_float_values_of_no_photograph_are_refused_by_name(tmp_path, bad):
    values = RAMP.astype(np.float32)
    values[0, 0] = bad
    Image.fromarray(values).save(tmp_path / "odd.tif")
    with pytest.raises(BadImage, match=r"odd.tif: gray values from"):
        open_image(tmp_path / "odd.tif")


def test_what_is_transparent_lies_on_white(tmp_path):
    """Under alpha 0 files hold any colour, which nobody is meant to see."""
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 4:, 3] = 255
    palette = Image.fromarray(rgba).quantize(8)
    for name, image in (("a.png", Image.fromarray(rgba)), ("p.png", palette)):
        found = opened(tmp_path / name, image)
        assert (found[:, :4] == 255).all() and (found[:, 4:] == (200, 0, 0)).all(), name
    gray = Image.merge("LA", (Image.new("L", (8, 8), 90), Image.new("L", (8, 8), 0)))
    assert (opened(tmp_path / "la.png", gray) == 255).all()


def test_avif_and_jfif_are_read_and_heic_is_named(tmp_path):
    green = Image.new("RGB", (32, 32), (20, 200, 40))
    for name, kind in (("a.avif", "AVIF"), ("b.jfif", "JPEG")):
        found = opened(tmp_path / name, green, format=kind)
        assert np.abs(found - np.array((20, 200, 40))).max() < 12, name
    heic = tmp_path / "c.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 500)
    with pytest.raises(BadImage, match="HEIC picture, which cannot be read here; save it as JPEG"):
        check_image(heic)


def test_print_colours_become_screen_colours(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert (opened(tmp_path / "c.jpg", cmyk, quality=95)[0, 0] > (200, -1, -1)).all()
