"""Every call of the reference's geometry gives what the reference gives, and fails with a class that its callers catch."""

from __future__ import annotations

import builtins
import json
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import wkdask
from tests.conftest import examples
from tests.geometry import answers

pytestmark = pytest.mark.oracle("webknossos")
OURS = {name: getattr(wkdask, name) for name in answers.NAMES} | {"np": np}

Compare = Callable[..., None]


@pytest.fixture(scope="module")
def compare(webknossos_python) -> Iterator[Compare]:
    """Evaluate expressions here and there."""
    words = [str(webknossos_python), answers.__file__]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin and program.stdout

        def compared(*expressions: str) -> None:
            program.stdin.write(json.dumps(expressions) + "\n")
            program.stdin.flush()
            differ = []
            for expression, theirs in zip(expressions, json.loads(program.stdout.readline()), strict=True):
                ours = json.loads(json.dumps(answers.answer(expression, OURS)))
                caught = theirs.get("error", [""])[0] in ours.get("error", ())
                if ours != theirs and not caught:
                    differ.append((expression, ours, theirs))
            assert not differ, "\n".join(map(str, differ))

        yield compared
        program.stdin.close()


alike = settings(
    max_examples=examples(8), phases=(Phase.generate,), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
small = st.integers(-40, 40)
triples = st.tuples(small, small, small)
positive = st.tuples(*[st.integers(1, 40)] * 3)
mags = st.tuples(*[st.sampled_from([1, 2, 4, 8, 16])] * 3)
VECTOR = "VecInt({0}, axes=('t', 'x', 'y', 'z'))"


@alike
@given(a=triples, b=positive, n=st.integers(1, 9))
def test_vec3_int(compare: Compare, a: tuple[int, ...], b: tuple[int, ...], n: int) -> None:
    v = f"Vec3Int{a}"
    ways = (f"Vec3Int({a})", f"Vec3Int({list(a)})", f"Vec3Int(np.array({a}))", f"Vec3Int(x={a[0]}, y={a[1]}, z={a[2]})")
    ways += (f"Vec3Int.from_xyz{a}", f"Vec3Int.from_str('{b[0]},{b[1]},{b[2]}')", f"Vec3Int.from_vec_or_int({a})")
    ways += (f"Vec3Int.full({n})", "Vec3Int.zeros()", "Vec3Int.ones()", f"Vec3Int.from_vec_or_int({n})", f"Vec3Int(Vec3Int{a})")
    ways += (f"Vec3Int(z={a[0]}, x={a[1]}, y={a[2]})", f"Vec3Int(*{a}, axes=('z', 'y', 'x'))")
    sums = [f"{v} {sign} {other}" for sign in ("+", "-", "*", "//", "%") for other in (b, n, f"Vec3Int{b}", f"np.array({b})")]
    pairs = [f"{v}.{name}({other})" for name in ("pairmax", "pairmin", "ceildiv") for other in (b, n)]
    parts = [f"{v}.{name}" for name in ("x", "y", "z", "axes", "xyz", "to_list()", "to_tuple()", "to_np()", "prod()")]
    told = [f"{v}.{name}" for name in ("is_uniform()", "is_positive()", "is_positive(strictly_positive=True)")]
    other = [f"{v}.with_x({n})", f"{v}.with_y({n})", f"{v}.with_z({n})", f"{v}.contains({n})", f"{v}.with_replaced(1, {n})"]
    other += [f"{v}.with_replaced('z', {n})", f"{v}.add_or_none({b})", f"{v}.add_or_none(None)", f"{v}.get('q', {n})"]
    order = [f"{v} {sign} {w}" for sign in ("==", "!=", "<", "<=", ">", ">=") for w in (f"Vec3Int{b}", b)]
    other += [
        f"hash({v}) == hash({a})",
        f"-{v}",
        f"{v}[1]",
        f"{v}[0:2]",
        f"list({v})",
        f"len({v})",
        f"{v}.with_xyz(Vec3Int{b})",
    ]
    compare(*ways, *sums, *pairs, *parts, *told, *other, *order)


@alike
@given(a=st.tuples(small, small, small, small), b=st.tuples(*[st.integers(1, 9)] * 4), n=st.integers(1, 9))
def test_vec_int(compare: Compare, a: tuple[int, ...], b: tuple[int, ...], n: int) -> None:
    v = VECTOR.format(a)
    ways = (f"VecInt(*{a}, axes='txyz')", f"VecInt(t={a[0]}, x={a[1]}, y={a[2]}, z={a[3]})", f"VecInt({v})")
    ways += (f"VecInt.full({n}, axes=('a', 'b'))", "VecInt.zeros(axes=('x',))", "VecInt.ones(('x', 'y'))")
    sums = [f"{v} {sign} {other}" for sign in ("+", "-", "*", "//", "%") for other in (b, n, VECTOR.format(b))]
    parts = [f"{v}.{name}" for name in ("x", "y", "z", "axes", "xyz", "to_list()", "to_tuple()", "to_np()", "prod()", "c")]
    other = [f"{v}.with_x({n})", f"{v}.with_xyz(Vec3Int(7, 8, 9))", f"{v}.pairmax({b})", f"{v}.pairmin({n})", f"-{v}"]
    other += [
        f"{v} == {b}",
        f"{v} == {a}",
        f"{v}.get('t')",
        f"{v}.get('q')",
        f"{v}.with_replaced('t', {n})",
        f"{v}.ceildiv({b})",
    ]
    compare(*ways, *sums, *parts, *other)


@alike
@given(a=st.tuples(*[st.floats(-1e6, 1e6)] * 3), b=st.tuples(*[st.floats(0.125, 64)] * 3))
def test_vec3_float(compare: Compare, a: tuple[float, ...], b: tuple[float, ...]) -> None:
    v = f"Vec3Float{a}"
    ways = (f"Vec3Float({a})", f"Vec3Float(np.array({a}))", f"Vec3Float.from_xyz{a}", "Vec3Float.zeros()", "Vec3Float.ones()")
    ways += (f"Vec3Float.full({a[0]})", f"Vec3Float.from_str('{a[0]},{a[1]},{a[2]}')", f"Vec3Int.from_vec3_float({v})")
    sums = [f"{v} {sign} {other}" for sign in ("+", "-", "*", "/") for other in (b, b[0], f"Vec3Float{b}", 3)]
    other = [f"{v}.pairmax({b})", f"{v}.pairmin({b[0]})", f"{v}.with_x({b[0]})", f"{v}.with_y(1)", f"{v}.with_z(1)", f"-{v}"]
    other += [
        f"{v}.to_vec3_int()",
        f"{v}.to_np()",
        f"{v}.to_list()",
        f"{v}.to_tuple()",
        f"{v}.prod()",
        f"hash({v}) == hash({a})",
    ]
    compare(*ways, *sums, *other, f"{v} < {b}", f"{v} == {a}", f"{v}.x", f"{v}.y", f"{v}.z")


@alike
@given(a=mags, b=mags)
def test_mag(compare: Compare, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    name = "-".join(map(str, a))
    ways = (f"Mag({a})", f"Mag({list(a)})", f"Mag('{name}')", f"Mag(np.array({a}))", f"Mag(Vec3Int{a})", f"Mag(Mag({a}))")
    ways += (f"Mag({a[0]})", f"Mag('{a[0]}')")
    parts = ("x", "y", "z", "max_dim", "max_dim_log2", "to_layer_name()", "to_long_layer_name()", "to_list()", "to_tuple()")
    parts += ("to_np()", "to_vec3_int()")
    signs = [f"Mag({a}) {sign} Mag({b})" for sign in ("==", "!=", "<", "<=", ">=", "*", "//")]
    other = (f"Mag({a}) == '{name}'", f"Mag({a}) == {a}", f"Mag({a}) == {a[0]}", f"Mag({a}) * 2", f"Mag({a}) // 2")
    hashed = f"hash(Mag({a})) == hash(Mag('{name}'))"
    compare(*ways, *(f"Mag({a}).{part}" for part in parts), *signs, *other, f"str(Mag({a}))", f"list(Mag({a}))", hashed)


@alike
@given(a=triples, size=triples, b=triples, other=positive, mag=mags)
def test_bounding_box(compare: Compare, a, size, b, other, mag) -> None:
    box, second = f"BoundingBox({a}, {size})", f"BoundingBox({b}, {other})"
    shown = f"BoundingBox({a}, {size}, name='a', is_visible=False, color=(1.0, 0.0, 0.0, 1.0))"
    parts = "topleft size bottomright axes index ndim topleft_xyz size_xyz bottomright_xyz index_xyz name is_visible color"
    calls = "is_empty() volume() to_tuple6() to_csv() to_config_dict() to_checkpoint_name() to_slices() to_slices_xyz()"
    calls += " normalize_axes(3) normalize_axes(3).denormalize() normalize_axes(1).normalize_axes(2) denormalize()"
    moves = [
        f"offset({b})",
        f"with_topleft({b})",
        f"with_size({b})",
        f"with_bottomright({b})",
        f"with_bounds('y', {b[0]}, {b[1]})",
    ]
    moves += [
        f"with_bounds_x({b[0]})",
        f"with_bounds_y(new_size_y={b[0]})",
        f"with_bounds_z({b[0]}, {b[1]})",
        "get_bounds('x')",
    ]
    moves += [f"with_topleft_xyz({b})", f"with_size_xyz({b})", f"with_bottomright_xyz({b})", "get_shape('z')", f"contains({b})"]
    moves += [f"padded_with_margins({other})", f"padded_with_margins({other}, (1, 2, 3))", f"from_mag_to_mag1(Mag({mag}))"]
    moves += [f"align_with_mag(Mag({mag}), ceil=True)", f"align_with_mag(Vec3Int{other}, ceil=True)", f"in_mag(Mag({mag}))"]
    moves += [f"align_with_mag(Mag({mag}), ceil=True).in_mag(Mag({mag}))", f"extended_by({second})"]
    moves += [f"intersected_with({second})", "with_index_xyz((3, 2, 1)).index_xyz", f"extended_by({second}) == {second}"]
    names = ["with_name('b').name", "with_is_visible(False).is_visible", "with_color((0.0, 1.0, 0.0, 1.0)).color"]
    kept = [
        f"{shown}.{move}.{part}" for move in (f"offset({b})", "normalize_axes(2)") for part in ("name", "is_visible", "color")
    ]
    same = [f"{box} == {shown}", f"hash({box}) == hash({shown})", f"{box} == {second}", f"{second}.contains_bbox({second})"]
    compare(*(f"{box}.{each}" for each in (*parts.split(), *calls.split(), *moves, *names)), *kept, *same)


@alike
@given(a=triples, size=positive, chunk=positive, align=positive, mag=mags)
def test_chunks_and_meeting_boxes(compare: Compare, a, size, chunk, align, mag) -> None:
    box, half = f"BoundingBox({a}, {size})", f"BoundingBox({a}, {chunk})"
    big = tuple(c * m for c, m in zip(align, (2, 1, 3), strict=True))
    least = tuple(max(4, c) for c in chunk)
    compare(
        f"{box}.chunk({least})",
        f"{box}.chunk({big}, {align})",
        f"{box}.chunk({chunk}, {tuple(c + 1 for c in chunk)})",
        f"{box}.iter_chunk_toplefts({least})",
        f"{box}.intersected_with({half})",
        f"{box}.intersected_with({half}, dont_assert=True)",
        f"{box}.contains_bbox({half})",
        f"{box}.normalize_axes(2).intersected_with({half})",
        f"{box}.normalize_axes(2).extended_by({half})",
        f"{box}.normalize_axes(2).contains_bbox({half})",
        f"{box}.align_with_mag(Mag({mag})) if min({size}) >= 32 else 0",
        f"BoundingBox.group_boxes_with_aligned_mag([{box}, {half}], Mag({mag}))",
        f"{box}.slice_array(np.zeros((50, 50, 50), 'u1')).shape if min({a}) >= 0 else 0",
    )


@alike
@given(a=triples, b=positive)
def test_spellings_of_boxes(compare: Compare, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    six = (*a, *b)
    text = ",".join(map(str, six))
    wkw = {"topLeft": list(a), "width": b[0], "height": b[1], "depth": b[2]}
    config = {"topleft": list(a), "size": list(b)}
    autos = [repr(text), repr(json.dumps(wkw)), repr(wkw), repr(config), repr(six), repr((a, b)), f"BoundingBox({a}, {b})"]
    ways = [f"BoundingBox.from_{name}" for name in (f"csv({text!r})", f"tuple6({six})", f"tuple2(({a}, {b}))")]
    ways += [f"BoundingBox.from_config_dict({config})", f"BoundingBox.from_points([{a}, {b}])", "BoundingBox.empty()"]
    ways += [f"BoundingBox.from_checkpoint_name({'part_' + '_'.join(map(str, map(abs, six)))!r})"]
    ways += [f"BoundingBox.from_ndbbox(NDBoundingBox({a}, {b}, ('x', 'y', 'z'), (0, 1, 2)))"]
    ways += [f"NormalizedBoundingBox.from_wkw_dict({wkw})", f"BoundingBox({a}, {b}).normalize_axes(3).to_wkw_dict()"]
    ways += [f"BoundingBox.from_axes(('x', 'y', 'z'), {b})", f"NDBoundingBox.from_axes(('t', 'x', 'y', 'z'), (2, *{b}))"]
    compare(*(f"BoundingBox.from_auto({auto})" for auto in autos), *ways)


@alike
@given(data=st.data(), a=st.tuples(*[small] * 4), size=st.tuples(*[st.integers(1, 12)] * 4), b=triples, mag=mags)
def test_named_axes(compare: Compare, data, a, size, b, mag) -> None:
    axes, index = data.draw(st.permutations("txyz")), data.draw(st.permutations(range(4)))
    made = f"NDBoundingBox({a}, {size}, {tuple(axes)}, {tuple(index)})"
    plain = f"NDBoundingBox({a}, {size}, ('t', 'x', 'y', 'z'), (0, 2, 3, 4))"
    moves = [
        f"with_topleft({a})",
        f"with_size({size})",
        f"with_bottomright({a})",
        f"offset({b})",
        f"offset({a})",
        "denormalize()",
    ]
    moves += [f"with_bounds('t', {b[0]}, {b[1]})", "with_bounds('q', 1)", "get_bounds('t')", "get_shape('y')", "volume()"]
    moves += [
        "topleft",
        "size",
        "bottomright",
        "axes",
        "index",
        "topleft_xyz",
        "size_xyz",
        "bottomright_xyz",
        "index_xyz",
        "ndim",
    ]
    moves += [f"with_topleft_xyz({b})", f"with_size_xyz({b})", f"with_bottomright_xyz({b})", "to_slices()", "to_config_dict()"]
    moves += [f"padded_with_margins({size[:3]})", f"from_mag_to_mag1(Mag({mag}))", f"align_with_mag(Mag({mag}), ceil=True)"]
    moves += [f"in_mag(Mag({mag}))", "normalize_axes(1)", "normalize_axes(3)", "to_checkpoint_name()", f"contains({a})"]
    moves += [f"intersected_with({plain})", f"extended_by({plain})", "is_empty()", "with_bounds('t', 0, 1).to_slices_xyz()"]
    moves += ["chunk((8, 8, 8))", "chunk((7, 8, 8, 8))", "to_slices_xyz()", f"intersected_with(BoundingBox({b}, (1, 1, 1)))"]
    moves += [f"with_index_xyz({tuple(n + 1 for n in index[:3])}).size_xyz", "xyz_array_to_bbox_shape(np.zeros((1, 2, 3)))"]
    moves += ["with_bounds('t', 0, 1).xyz_array_to_bbox_shape(np.zeros((1, 2, 3))).size"]
    compare(made, *(f"{plain}.{move}" for move in moves), f"{made}.with_index({tuple(index[::-1])})")


def test_units_of_length(compare: Compare) -> None:
    names = [unit.name for unit in wkdask.LengthUnit]
    compare("[unit.name for unit in LengthUnit]", "list(LengthUnit)", "VoxelSize((1, 2, 3))", "VoxelSize([1.5, 2, 3]).unit")
    compare(*(f"VoxelSize((1, 2, 2.5), LengthUnit.{name}).to_nanometer()" for name in names))
    compare(*(f"LengthUnit({name.lower()!r})" for name in names), "VoxelSize((1, 2, 3)) == VoxelSize((1.0, 2.0, 3.0))")
    compare("VoxelSize(factor=(1, 2, 3), unit=LengthUnit.INCH).factor")


ERRORS = """
VecInt(1, 2, 3)
VecInt(1, 2)
VecInt((1, 2, 3, 4), axes=('t', 'x', 'y', 'z')) + (1, 2, 3)
VecInt((1, 2, 3, 4), axes=('t', 'x', 'y', 'z')) + Vec3Int(1, 2, 3)
Vec3Int(1)
Vec3Int((1, 2))
Vec3Int(1, 2)
Vec3Int(None)
Vec3Int(np.array([1, 2, 3, 4]))
Vec3Int.from_str('a,2,3')
Vec3Int(1, 2, 3) + 1.5
Vec3Int(1, 2, 3) + (1, 2)
Vec3Int(1, 2, 3) + None
Vec3Int(1, 2, 3) / 2
Vec3Int(1, 2, 3) // 0
Vec3Int(1, 2, 3).get('q')
Vec3Int(1, 2, 3).c
Vec3Int(1, 2, 3).with_replaced('q', 1)
Vec3Int(1, 2, 3).with_replaced(3, 1)
Vec3Float(1)
Vec3Float((1, 2))
Vec3Float('a,b,c')
Vec3Float(1, 2, 3) + (1, 2)
Mag(0)
Mag(3)
Mag('3')
Mag(-2)
Mag(2.0)
Mag('2-2')
Mag('a')
Mag('')
Mag('2-2-1-1')
Mag((2, 2))
Mag([2])
Mag(None)
Mag('2-2-3')
Mag((2, 2, 0))
Mag(2) * 3
Mag(2) // 4
BoundingBox((5, 5), (0, 1))
BoundingBox.from_tuple6((1, 2, 3, 4, 5))
BoundingBox.from_csv('1,2,3,4,5')
BoundingBox.from_csv('1,2,3,4,5,a')
BoundingBox.from_checkpoint_name('1_2_3')
BoundingBox.from_config_dict({})
BoundingBox.from_points([])
BoundingBox.from_auto(5)
BoundingBox.from_auto('abc')
BoundingBox.from_auto((1, 2))
BoundingBox.from_auto({'a': 1})
BoundingBox((1, 2, 3), (4, 5, 6)).in_mag(Mag(2))
BoundingBox((1, 2, 3), (4, 5, 6)).intersected_with(BoundingBox((99, 99, 99), (1, 1, 1)))
BoundingBox((1, 2, 3), (4, 5, 6)).padded_with_margins((1, 2))
BoundingBox((1, 2, 3), (4, 5, 6)).offset(1)
BoundingBox((1, 2, 3), (4, 5, 6)).contains((1, 2))
BoundingBox((1, 2, 3), (4, 5, 6)).with_bounds('q', 1)
BoundingBox((1, 2, 3), (4, 5, 6)).get_bounds('q')
BoundingBox((1, 2, 3), (4, 5, 6)).get_shape('q')
BoundingBox((1, 2, 3), (4, 5, 6)).normalize_axes(3).to_slices_xyz()
NDBoundingBox((0, 0, 0), (1, 1, 1), ('x', 'y'), (0, 1, 2))
NDBoundingBox((0, 0, 0), (1, 1), ('x', 'y', 'z'), (0, 1, 2))
LengthUnit('nm')
LengthUnit('')
VoxelSize((1, 2))
""".strip().splitlines()


def test_errors_have_classes_that_callers_catch(compare: Compare) -> None:
    for expression in ERRORS:
        answer = answers.answer(expression, OURS)
        assert "error" in answer, expression
        assert getattr(builtins, answer["error"][0])
    compare(*ERRORS)
