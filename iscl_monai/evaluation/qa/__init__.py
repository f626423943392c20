"""Quality checks on phantoms: a denoiser measured at several doses, and held against limits that can be edited."""

from iscl_monai.evaluation.qa.check import Plan, check
from iscl_monai.evaluation.qa.headline import headline
from iscl_monai.evaluation.qa.limits import Limits, write_limits
from iscl_monai.evaluation.qa.making import FIXED_SEED, FULL, QUICK, Size, cache_folder, make_phantom
from iscl_monai.evaluation.qa.result import QaResult, Verdict
from iscl_monai.evaluation.qa.run import run_qa
from iscl_monai.evaluation.qa.scans import slices_to_do

__all__ = [
    "FIXED_SEED",
    "FULL",
    "QUICK",
    "Limits",
    "Plan",
    "QaResult",
    "Size",
    "Verdict",
    "cache_folder",
    "check",
    "headline",
    "make_phantom",
    "run_qa",
    "slices_to_do",
    "write_limits",
]
