"""Which magnifications a pyramid has: pure arithmetic over mags and the size of a voxel."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from enum import Enum

from wkdask.errors import InputError
from wkdask.geometry import Vec3Float, Vec3FloatLike, Vec3Int, Vec3IntLike
from wkdask.geometry.mag import Mag, MagLike

_TOLERANCE = 1e-6
"""Lengths that differ by less, relatively, count as equal: 11.24 and 11.240000001 nm are one voxel size."""


class SamplingModes(Enum):
    """How the axes of a pyramid shrink from mag to mag.

    Examples
    --------
    >>> SamplingModes.parse("auto")
    <SamplingModes.ANISOTROPIC: 'anisotropic'>
    """

    ANISOTROPIC = "anisotropic"
    """The axes with the smallest voxel edges first, until voxels are about cubes; then all."""
    ISOTROPIC = "isotropic"
    """All axes in each step."""
    CONSTANT_Z = "constant_z"
    """x and y in each step, z never."""

    @classmethod
    def parse(cls, mode: SamplingModes | str) -> SamplingModes:
        """Return the mode of a name; ``auto`` is the older name of ``anisotropic``."""
        if isinstance(mode, SamplingModes):
            return mode
        names = {"auto": cls.ANISOTROPIC, **{member.value: member for member in cls}}
        if str(mode).lower() not in names:
            raise InputError(f"There is no sampling mode {mode!r}; there are {', '.join(names)}. Use one of those.")
        return names[str(mode).lower()]


def sampling_mode_for(size_xyz: Vec3IntLike, sampling_mode: SamplingModes | str) -> SamplingModes:
    """Return the mode that a layer of this size gets: a layer of one section never shrinks along z.

    Parameters
    ----------
    size_xyz
        Size of the layer in mag-1 voxels.
    sampling_mode
        The mode asked for.

    Examples
    --------
    >>> sampling_mode_for((512, 512, 1), "isotropic").value
    'constant_z'
    """
    return SamplingModes.CONSTANT_Z if Vec3Int(size_xyz).z == 1 else SamplingModes.parse(sampling_mode)


def default_coarsest_mag(size_xyz: Vec3IntLike) -> Mag:
    """Return the mag at which the longer of x and y has 100 voxels at most; 4 at least.

    Parameters
    ----------
    size_xyz
        Size of the layer in mag-1 voxels; z does not count.

    Examples
    --------
    >>> default_coarsest_mag((5000, 3000, 200)), default_coarsest_mag((0, 0, 0))
    (Mag('64'), Mag('4'))
    """
    size = Vec3Int(size_xyz)
    mag = 4
    while mag * 100 < max(size.x, size.y):
        mag *= 2
    return Mag(mag)


def calculate_mags_to_downsample(
    from_mag: MagLike,
    coarsest_mag: MagLike,
    voxel_size: Vec3FloatLike,
    sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
    aligned: Iterable[MagLike] = frozenset(),
) -> list[Mag]:
    """Return the mags of a pyramid, finest first, each a multiple of the one before.

    Parameters
    ----------
    from_mag
        The mag that exists; not in the result.
    coarsest_mag
        Where to end. No component of the result exceeds its own here, and the list ends once the largest ones are equal.
    voxel_size
        Edges of a mag-1 voxel, in any unit.
    sampling_mode
        How the axes shrink.
    aligned
        Mags of other layers: where one has the next largest component, it is taken, whatever the mode says. Of several such
        mags it is the one that the mode says, else the first that can be made.

    Raises
    ------
    InputError
        Where `from_mag` exceeds `coarsest_mag` along an axis, or none of the aligned mags can be made of the mag before.

    Warns
    -----
    UserWarning
        Where this voxel size never leads to `coarsest_mag`; the list ends with the last mag before it.

    Examples
    --------
    >>> [str(mag) for mag in calculate_mags_to_downsample(1, 16, (11.24, 11.24, 28))]
    ['2-2-1', '4-4-2', '8-8-4', '16-16-8']
    """
    mode, size = SamplingModes.parse(sampling_mode), Vec3Float(voxel_size)
    cur, coarsest = Mag(from_mag).to_vec3_int(), Mag(coarsest_mag).to_vec3_int()
    if not all(0 < edge < float("inf") for edge in size):
        raise InputError(f"A voxel has positive edges, got {size.to_tuple()}. Give its size along x, y and z.")
    if any(a > b for a, b in zip(cur, coarsest, strict=True)):
        raise InputError(f"Mag {Mag(cur)} exceeds the coarsest mag {Mag(coarsest)} along an axis. Choose a coarser one.")
    if mode is SamplingModes.CONSTANT_Z:
        coarsest = coarsest.with_z(cur.z)
    others, out = [Mag(mag) for mag in aligned], list[Mag]()
    while max(cur) < max(coarsest):
        step = _anisotropic_step(cur, coarsest, size) if mode is SamplingModes.ANISOTROPIC else (cur * 2).pairmin(coarsest)
        new = _aligned(cur, step.pairmax(cur), [mag for mag in others if mag.max_dim == 2 * max(cur)])
        if new == cur:
            warnings.warn(
                f"Mag {Mag(coarsest_mag)} can not be reached from mag {Mag(from_mag)} with voxels of {size.to_tuple()}. "
                f"The pyramid ends at mag {out[-1] if out else Mag(from_mag)}; choose another coarsest mag or mode.",
                stacklevel=2,
            )
            break
        skipped = mode is SamplingModes.ANISOTROPIC and max(new) == max(cur) and not _doubles_all(cur, size)
        cur = new
        if not skipped:
            out.append(Mag(cur))
    return out


def calculate_mags_to_upsample(
    from_mag: MagLike,
    finest_mag: MagLike,
    voxel_size: Vec3FloatLike,
    sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
    aligned: Iterable[MagLike] = frozenset(),
) -> list[Mag]:
    """Return the mags from one down to a finer one, coarsest first: those of a pyramid between the two, and the finest.

    Parameters
    ----------
    from_mag
        The mag that exists; not in the result.
    finest_mag
        The last of the result.
    voxel_size, sampling_mode, aligned
        As in `calculate_mags_to_downsample`.

    Examples
    --------
    >>> [str(mag) for mag in calculate_mags_to_upsample(16, 1, (11, 11, 25))]
    ['8-8-4', '4-4-2', '2-2-1', '1']
    """
    if Mag(from_mag) == Mag(finest_mag):
        return []
    forward = calculate_mags_to_downsample(finest_mag, from_mag, voxel_size, sampling_mode, aligned)
    return [mag for mag in reversed(forward) if mag < from_mag] + [Mag(finest_mag)]


def _aligned(cur: Vec3Int, step: Vec3Int, others: Sequence[Mag]) -> Vec3Int:
    """Return what comes after a mag: the step of the mode, or where other layers have mags of that size, one of theirs."""
    if not others or Mag(step) in others:
        return step
    for other in others:
        if not any(other.to_vec3_int() % cur):
            return other.to_vec3_int()
    raise InputError(
        f"Mag {others[0]} of another layer can not be made of mag {Mag(cur)}, as it is finer along an axis. "
        "Do not align with other layers, or start from a finer mag."
    )


def _doubles_all(cur: Vec3Int, voxel_size: Vec3Float) -> bool:
    """Tell whether all axes double, as doubling only the smallest would make the voxel more anisotropic than it is."""
    lengths = [c * edge for c, edge in zip(cur, voxel_size, strict=True)]
    partly = [length * (2 if _is_smallest(length, lengths) else 1) for length in lengths]
    return max(lengths) / min(lengths) * (1 + _TOLERANCE) < max(partly) / min(partly)


def _is_smallest(length: float, lengths: list[float]) -> bool:
    return length <= min(lengths) * (1 + _TOLERANCE)


def _anisotropic_step(cur: Vec3Int, coarsest: Vec3Int, voxel_size: Vec3Float) -> Vec3Int:
    """Double the axes whose voxel edges are smallest, or all; none beyond the coarsest."""
    lengths = [c * edge for c, edge in zip(cur, voxel_size, strict=True)]
    every = _doubles_all(cur, voxel_size)
    factor = Vec3Int(2 if every or _is_smallest(length, lengths) else 1 for length in lengths)
    return (cur * factor).pairmin(coarsest).pairmax(cur)
