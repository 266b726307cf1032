"""Operations: arrays and images in, plans out."""

from wkdask.operations.convert import Into, Running, Sampling, Storage, plan_convert
from wkdask.operations.mag_list import SamplingModes, calculate_mags_to_downsample, default_coarsest_mag
from wkdask.operations.target import check_overwritable

__all__ = [
    "Into",
    "Running",
    "Sampling",
    "SamplingModes",
    "Storage",
    "calculate_mags_to_downsample",
    "check_overwritable",
    "default_coarsest_mag",
    "plan_convert",
]
