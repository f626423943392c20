"""What every test gets: the same random numbers, and few threads."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import Phase, settings

# For `make mutants`: that a counterexample exists is enough, finding a small one takes most of the time.
settings.register_profile(
    "mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None, deadline=None
)

# More threads than cores make small networks slower, and sums depend on their number.
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
