"""Operations: arrays and images in, plans out."""

from wkdask.operations.append import plan_append
from wkdask.operations.choices import Running, Sampling, Storage
from wkdask.operations.convert import Into, plan_convert
from wkdask.operations.deleting import check_overwritable
from wkdask.operations.downsample import Coarser, plan_downsample, set_up
from wkdask.operations.imports import Treatment, plan_imports, run_plans
from wkdask.operations.mag_list import SamplingModes, calculate_mags_to_downsample, default_coarsest_mag
from wkdask.operations.source import Orientation
from wkdask.operations.values import Rescale, ValueMap, parse_rescale

__all__ = [
    "Coarser",
    "Into",
    "Orientation",
    "Rescale",
    "Running",
    "Sampling",
    "SamplingModes",
    "Storage",
    "Treatment",
    "ValueMap",
    "calculate_mags_to_downsample",
    "check_overwritable",
    "default_coarsest_mag",
    "parse_rescale",
    "plan_append",
    "plan_convert",
    "plan_downsample",
    "plan_imports",
    "run_plans",
    "set_up",
]
