"""Pictures that pillow decodes: every mode, window and frame, of any size, in the memory that is foretold."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import examples
from tests.images.image_files import read_whole, voxels, window_of
from wkdask.errors import CorruptImageError, UnsupportedImageDataError
from wkdask.images import pillow as reader
from wkdask.images.gif import read_blocks
from wkdask.images.jpeg import is_held_whole
from wkdask.images.picture import forget_parsed, parsed

MAGIC = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    forget_parsed()
    reader._films.clear()
    yield
    reader._films.clear()


def png(width: int, height: int, depth: int, kind: int, data: bytes) -> bytes:
    """Return a PNG file of rows with their filter bytes."""
    body = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return MAGIC + b"".join([struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks])


PICTURES = {
    "1": (1, "uint8"),
    "L": (1, "uint8"),
    "LA": (2, "uint8"),
    "RGB": (3, "uint8"),
    "RGBA": (4, "uint8"),
    "I;16": (1, "uint16"),
}
"""Channels and dtype that pillow makes a picture of, by the mode of that."""
PNG_COLOURS = {0: (1, "grey"), 2: (3, "rgb"), 4: (2, "samples"), 6: (4, "rgba")}  # by the colour type of the specification


@pytest.mark.parametrize(("depth", "kind"), [(1, 0), (8, 0), (16, 0), (8, 2), (8, 4), (8, 6)])
def test_modes_of_png(tmp_path: Path, depth: int, kind: int) -> None:
    channels, colour = PNG_COLOURS[kind]
    expected = voxels(11, 13, channels, dtype="uint16" if depth == 16 else "uint8")
    expected = expected % 2 if depth == 1 else expected
    rows = np.packbits(expected, axis=1) if depth == 1 else expected.astype(expected.dtype.newbyteorder(">"))
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    (tmp_path / "a.png").write_bytes(png(13, 11, depth, kind, data))
    picture = parsed(str(tmp_path / "a.png"))
    assert (picture.form.channels, picture.form.dtype, picture.colour, picture.dims) == (channels, expected.dtype, colour, ())
    assert bool(picture.notes) == (depth == 1 or kind == 4)
    assert np.array_equal(read_whole(tmp_path / "a.png"), expected)
    assert np.array_equal(window_of(picture, tmp_path / "a.png", 0, (2, 9), (3, 4)), expected[2:9, 3:4])


@pytest.mark.parametrize("odd", [None, 0, 1, 2])
def test_palettes(tmp_path: Path, odd: int | None) -> None:
    grey = voxels(11, 13, dtype="uint8")
    image = Image.fromarray(grey)
    image.putpalette([255 - value if channel == odd else value for value in range(256) for channel in range(3)])
    expected = np.stack([255 - grey if channel == odd else grey for channel in range(3)], 2)
    for name in ("a.png", "a.gif", "a.bmp"):
        image.save(tmp_path / name)
        assert parsed(str(tmp_path / name)).colour == ("grey" if odd is None else "rgb")
        assert np.array_equal(read_whole(tmp_path / name), expected[..., :1] if odd is None else expected)


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("kept", [1 << 20, 0])
def test_frames_of_a_film_are_a_stack(tmp_path: Path, colour: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wkdask.images.pillow.KEPT_FRAMES", kept)
    flat = np.random.default_rng(0).integers(0, 4, (5, 11, 13, 1 if colour == "grey" else 3)).astype("uint8") * 80
    frames = [Image.fromarray(plane.squeeze()).convert("P", palette=Image.Palette.ADAPTIVE) for plane in flat]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], optimize=False)
    with Image.open(tmp_path / "a.gif") as image:
        expected = [np.asarray((image.seek(page), image.convert("RGB"))[1]) for page in range(5)]
    picture = parsed(str(tmp_path / "a.gif"))
    assert (picture.dims, picture.colour) == ((("z", 5),), colour)
    assert np.array_equal(read_whole(tmp_path / "a.gif"), np.stack(expected)[..., : picture.form.channels])
    assert np.array_equal(window_of(picture, tmp_path / "a.gif", 3, (2, 9), (3, 4))[..., 0], expected[3][2:9, 3:4, 0])


@pytest.mark.parametrize("more", [0, 1])
def test_films_up_to_a_limit_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    frames = [Image.fromarray(voxels(11, 13, dtype="uint8") + z) for z in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(reader, "KEPT_FRAMES", 3 * 11 * 13 - more)
    picture = parsed(str(tmp_path / "a.gif"))
    assert picture.decoded_bytes == 11 * 13 * (20 + 16 + (0 if more else 3))
    factory, _ = Image.OPEN["GIF"]
    times: list[int] = []
    monkeypatch.setitem(Image.OPEN, "GIF", (lambda *one: (times.append(1), factory(*one))[1], lambda _: True))
    for page in (2, 0, 1, 2):
        assert np.array_equal(window_of(picture, tmp_path / "a.gif", page, (0, 11), (0, 13))[..., 0], np.asarray(frames[page]))
    assert len(times) == (4 if more else 1) and bool(reader._films) != bool(more)
    os.utime(tmp_path / "a.gif", ns=(1, 1))  # changed, as far as anybody knows
    window_of(picture, tmp_path / "a.gif", 1, (0, 11), (0, 13))
    assert len(times) == (5 if more else 2) and len(reader._films) == (0 if more else 1)


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError("x"), "asks for more memory than there is"), (ValueError("Odd."), "Odd. Write"), (KeyError(), "KeyError")],
)
def test_whatever_pillow_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(*_: Any) -> None:
        raise error

    Image.new("L", (6, 5)).save(tmp_path / "a.png")
    picture = parsed(str(tmp_path / "a.png"))
    monkeypatch.setattr(Image.Image, "crop", fail)
    with pytest.raises(CorruptImageError, match=f"can not be decoded: .*{words}"):
        window_of(picture, tmp_path / "a.png", 0, (0, 5), (0, 6))
    monkeypatch.setitem(Image.OPEN, "PNG", (fail, lambda _: True))
    forget_parsed()
    with pytest.raises(CorruptImageError, match=f"can not be read as an image: .*{words}"):
        parsed(str(tmp_path / "a.png"))


def test_what_users_should_know(tmp_path: Path) -> None:
    grey = Image.fromarray(voxels(5, 6, dtype="uint8"))
    grey.save(tmp_path / "plain.png")
    grey.save(tmp_path / "clear.png", transparency=7)
    grey.save(tmp_path / "frames.gif", save_all=True, append_images=[Image.new("L", (6, 5), 9)])
    Image.new("RGB", (6, 5)).save(tmp_path / "album.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (6, 5), 9)])
    for name, *words in (
        ("plain.png",),
        ("frames.gif",),
        ("clear.png", "some colours are declared transparent"),
        ("album.jpg", "the file holds 2 pictures; only the first is read"),
    ):
        picture = parsed(str(tmp_path / name))
        assert len(picture.notes) == len(words) and all(word in note for word, note in zip(words, picture.notes, strict=True))
        assert (picture.pages, picture.dims) == ((2, (("z", 2),)) if name == "frames.gif" else (1, ()))
    assert not read_whole(tmp_path / "album.jpg").any()


def test_what_pillow_would_change_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (5, 6)).save(tmp_path / "a.jpg")
    frames = [Image.new("L", (5, 6), value) for value in (0, 9)]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    for name, depth, kind in (("c.png", 16, 2), ("d.png", 4, 0)):
        (tmp_path / name).write_bytes(png(4, 1, depth, kind, bytes(1 + 4 * 6 if kind else 3)))
    for name, word in (("a.jpg", "CMYK"), ("b.png", "animated"), ("c.png", "16 bit"), ("d.png", "4 bit")):
        with pytest.raises(UnsupportedImageDataError, match=rf"{name}'.*{word}"):
            parsed(str(tmp_path / name))


def picture_of(mode: str, height: int, width: int) -> tuple[Image.Image, Any]:
    channels, dtype = PICTURES[mode]
    data = voxels(height, width, channels, dtype=dtype)
    data = data % 2 if mode == "1" else data
    image = Image.fromarray(data[..., 0].astype(bool) if mode == "1" else data.squeeze(2) if channels == 1 else data)
    assert image.mode == mode
    return image, data


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_window_in_bands_of_any_height(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    height, width, band = (data.draw(st.integers(1, most)) for most in (40, 30, 200))
    image, expected = picture_of(data.draw(st.sampled_from(sorted(PICTURES))), height, width)
    monkeypatch.setattr(reader, "BAND", band)
    image.save(tmp_path / "a.png")
    forget_parsed()
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    x0, x1 = sorted(data.draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    result = window_of(parsed(str(tmp_path / "a.png")), tmp_path / "a.png", 0, (y0, y1), (x0, x1))
    assert np.array_equal(result, expected[y0:y1, x0:x1])


@pytest.mark.parametrize("extension", ["png", "bmp", "gif", "jpg"])
def test_the_limit_of_pixels_of_the_process_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    expected = np.full((200, 300), 7, "uint8")
    Image.fromarray(expected).save(tmp_path / f"a.{extension}")
    for limit in (50_000, 1000):  # pillow warns of the one, and refuses the other
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        forget_parsed()
        monkeypatch.setattr(reader, "BAND", 900)
        assert np.array_equal(read_whole(tmp_path / f"a.{extension}")[..., 0], expected)
        assert limit == Image.MAX_IMAGE_PIXELS
        with pytest.raises(Image.DecompressionBombError) if limit == 1000 else pytest.warns(Image.DecompressionBombWarning):
            Image.open(io.BytesIO((tmp_path / f"a.{extension}").read_bytes()))


@pytest.mark.parametrize(("depth", "kind"), [(1, 0), (8, 0), (8, 2)])
def test_the_emptiest_picture_is_no_bomb(tmp_path: Path, depth: int, kind: int) -> None:
    row = bytes(1 + (4096 * depth // 8) * (3 if kind else 1))
    (tmp_path / "a.png").write_bytes(png(4096, 4096, depth, kind, row * 4096))
    picture = parsed(str(tmp_path / "a.png"))
    assert not window_of(picture, tmp_path / "a.png", 0, (4000, 4096), (0, 4096)).any()


@pytest.mark.parametrize("edge", [40_000, 2**31 - 1])
def test_a_bomb_is_refused_unread(tmp_path: Path, edge: int) -> None:
    (tmp_path / "a.png").write_bytes(png(edge, edge, 8, 2, bytes(100_000)))
    size = (tmp_path / "a.png").stat().st_size
    with pytest.raises(CorruptImageError, match=rf"a\.png' declares {edge * edge * 4} bytes .* but is {size} bytes long"):
        parsed(str(tmp_path / "a.png"))


MEASURE = """
import os, re, sys
from pathlib import Path
import numpy as np
from wkdask.images.byte_source import opened
from wkdask.images.picture import parsed
def status(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
def measure(path):
    picture = parsed(path)
    out = np.ones((picture.form.height, picture.form.width, picture.form.channels), picture.form.dtype)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    with opened(path) as source:
        picture.read(source, picture.pages - 1, (0, picture.form.height), (0, picture.form.width), out)
    print(path, status("VmHWM") - before, picture.decoded_bytes, flush=True)
measure("warm.png")
for path in sys.argv[1:]:
    child = os.fork()  # a process that has loaded all and freed nothing yet
    if child == 0:
        measure(path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs /proc: Linux tells a process's peak there")
def test_decoding_takes_the_memory_that_is_foretold(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (1500, 1600), "uint8")
    rgb = Image.fromarray(np.stack([grey, grey // 2, 255 - grey], 2))
    Image.fromarray(grey[:9]).save(tmp_path / "warm.png")
    Image.fromarray(grey).save(tmp_path / "grey.png", compress_level=1)
    Image.fromarray(grey).save(tmp_path / "grey.jpg", progressive=True)
    Image.fromarray(grey.astype("uint16")).save(tmp_path / "deep.png", compress_level=1)
    rgb.save(tmp_path / "rgb.png", compress_level=1)
    rgb.save(tmp_path / "rgb.jpg", progressive=True, subsampling=0)
    rgb.save(tmp_path / "plain.jpg")
    (tmp_path / "runs.bmp").write_bytes(bitmap_of_runs(1500, 1600))
    frames = [Image.fromarray(np.roll(grey, z, 0)) for z in range(2)]
    for frame in frames:
        frame.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], disposal=2)
    names = ["grey.png", "grey.jpg", "deep.png", "rgb.png", "rgb.jpg", "plain.jpg", "runs.bmp", "film.gif"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *names], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100
    )
    taken = {name: (int(took), int(said)) for name, took, said in map(str.split, done.stdout.splitlines()[1:])}
    assert list(taken) == names
    for name, (took, said) in taken.items():
        assert took < said + (1 << 20), (name, took, said)
        assert said < took + (5 << 20) or name in ("runs.bmp", "film.gif"), (name, took, said)


def bitmap_of_runs(height: int, width: int) -> bytes:
    """Return a BMP file whose rows are runs of one value."""
    rows = b"".join(bytes([250, y % 7]) * (width // 250) + bytes([width % 250, y % 7]) + b"\0\0" for y in range(height))
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows) + 2, 0, 0, 256, 256)
    palette = b"".join(bytes([value] * 3 + [0]) for value in range(256))
    return b"BM" + struct.pack("<IHHI", start + len(rows) + 2, 0, 0, start) + header + palette + rows + b"\0\1"


def test_bitmaps_of_runs(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(bitmap_of_runs(40, 777))
    expected = np.repeat((np.arange(40) % 7).astype("uint8")[::-1, None], 777, 1)
    assert np.array_equal(read_whole(tmp_path / "a.bmp")[..., 0], expected)
    picture = parsed(str(tmp_path / "a.bmp"))
    assert (picture.decoded_bytes, picture.notes, picture.voxel_size) == (40 * 777 * 20, (), None)


def jpeg_header(frame: int, components: int, scanned: int) -> bytes:
    body = struct.pack(">BHHB", 8, 16, 16, components) + bytes(3 * components)
    scan = bytes([scanned]) + bytes(2 * scanned + 3)
    parts = [(0xFE, b"\xff\xc2" + bytes(9)), (frame, body), (0xC4, bytes(17)), (0xDA, scan)]
    return b"\xff\xd8\xff" + b"".join(struct.pack(">BBH", 0xFF, code, len(data) + 2) + data for code, data in parts)


@pytest.mark.parametrize("frame", range(0xC0, 0xC4))
@pytest.mark.parametrize("components", [1, 3, 4])
def test_what_decoders_of_jpeg_hold(frame: int, components: int) -> None:
    for scanned in range(1, components + 1):
        held = frame == 0xC2 or scanned < components
        header = jpeg_header(frame, components, scanned)
        assert is_held_whole(io.BytesIO(header)) == held
        for size in range(len(header) - 2 * scanned - 5):
            assert is_held_whole(io.BytesIO(header[:size]))
    assert is_held_whole(io.BytesIO(b"\xff\xd8\xff\xe0\0\x02broken"))


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, bytes, bool]:
    """Flags, bytes of a table of colours, whether it is grey; a table that is not there is."""
    bits, there, grey = draw(st.integers(0, 7)), draw(st.booleans()), draw(st.booleans())
    colours = np.repeat(np.arange(2 << bits, dtype="uint8")[:, None], 3, 1)
    if not grey:
        colours[draw(st.integers(0, len(colours) - 1)), draw(st.integers(0, 2))] ^= 1
    return (0x80 | bits, colours.tobytes(), grey) if there else (bits, b"", True)


PIECES = st.lists(st.integers(1, 255), max_size=3).map(lambda sizes: b"".join(bytes([n]) + b"," * n for n in sizes) + b"\0")


@given(first=tables(), frames=st.lists(st.tuples(tables(), PIECES, st.none() | PIECES), max_size=4), data=st.data())
def test_blocks_of_gif(first: Any, frames: list[Any], data: st.DataObject) -> None:
    content = b"GIF89a" + struct.pack("<HHBBB", 5, 6, first[0], 0, 0) + first[1]
    for (flags, colours, _), pieces, extension in frames:
        content += b"" if extension is None else b"\x21\xf9" + extension
        content += b"\x2c" + struct.pack("<HHHHB", 0, 0, 5, 6, flags) + colours + b"\x08" + pieces
    blocks = read_blocks(io.BytesIO(content + b"\x3b and what follows"))
    assert (blocks.frames, blocks.grey) == (len(frames), first[2] and all(table[2] for table, *_ in frames))
    with pytest.raises(ValueError, match="it ends before its last block"):
        read_blocks(io.BytesIO(content[: data.draw(st.integers(0, len(content)))]))
    with pytest.raises(ValueError, match=f"frame {len(frames)} is followed by a block of the unknown kind 0x07"):
        read_blocks(io.BytesIO(content + b"\x07"))
