"""An import never writes over what it reads: no table, and no photograph through a link to it."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geoagent_rl.data.importers.run import Options, import_dataset
from geoagent_rl.types import UserError


def png(shade):
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 90, 30)).save(data, "PNG")
    return data.getvalue()


def table(path, *shades):
    rows = [
        {"uid": f"p{i}", "image": {"bytes": png(s), "path": "x.png"}, "lat": 48.1, "lon": 11.6}
        for i, s in enumerate(shades)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("folder", [True, False])
def test_the_table_that_is_read_is_not_written_over(tmp_path, folder):
    (tmp_path / "data").mkdir()
    source = table(tmp_path / "data" / "train.parquet", 1, 2)
    before = source.read_bytes()
    with pytest.raises(UserError, match="is being read; write it elsewhere"):
        import_dataset(source.parent if folder else source, source, Options())
    assert source.read_bytes() == before and not (source.parent / "images").exists()


def test_a_photograph_that_is_a_link_to_an_original_is_replaced_not_written_through(tmp_path):
    original = tmp_path / "original.png"
    original.write_bytes(png(99))
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "p0.png").hardlink_to(original)
    source = table(tmp_path / "train.parquet", 1, 2)
    for _ in range(2):  # the same again is all right
        loaded = import_dataset(source, tmp_path / "out" / "manifest.parquet", Options())
        assert len(loaded.samples) == 2
        assert (tmp_path / "out" / "images" / "p0.png").read_bytes() == png(1)
    assert original.read_bytes() == png(99)
    assert not list(tmp_path.rglob("*.part"))
