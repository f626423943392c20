"""Which scans feed which side, and what is drawn from them."""

from iscl_monai.data.datalist import MINIMUM_GAP_MM, Datalist, check_leaks
from iscl_monai.data.degradation import Degradation
from iscl_monai.data.harvest import HarvestedNoise
from iscl_monai.data.pairs import SliceDataset, check_same_shape, pairs_of, references
from iscl_monai.data.patches import (
    PairedPatches,
    RunSampler,
    UnpairedPatches,
    cached,
    check_memory,
    pool_noise_hu,
    pool_quiet_noise,
)
from iscl_monai.data.pool_noise import PoolNoise
from iscl_monai.data.pool_record import appearances, dark_noise, pool_record
from iscl_monai.data.rician import RicianNoise
from iscl_monai.data.scan import PoolScan, ScanPair
from iscl_monai.data.simulated import SimulatedNoise, noise_source

__all__ = [
    "MINIMUM_GAP_MM",
    "Datalist",
    "Degradation",
    "HarvestedNoise",
    "PairedPatches",
    "PoolNoise",
    "PoolScan",
    "RicianNoise",
    "RunSampler",
    "ScanPair",
    "SimulatedNoise",
    "SliceDataset",
    "UnpairedPatches",
    "appearances",
    "cached",
    "check_leaks",
    "check_memory",
    "check_same_shape",
    "dark_noise",
    "noise_source",
    "pairs_of",
    "pool_noise_hu",
    "pool_quiet_noise",
    "pool_record",
    "references",
]
