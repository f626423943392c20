from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from iscl_monai.errors import ImageRefusal
from iscl_monai.quality.lesions import wilson


@settings(max_examples=30)
@given(total=st.integers(1, 500), data=st.data())
def test_the_interval_is_wilsons(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    share = wilson(count, total)
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("count", "total"), [(9, 8), (-1, 8), (0, 0)])
def test_what_is_no_share_is_refused(count: int, total: int) -> None:
    with pytest.raises(ImageRefusal, match=f"{count} of {total}"):
        wilson(count, total)
