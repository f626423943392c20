"""Domains by the names that configs and weights use."""

from __future__ import annotations

from iscl_monai.domain.ct import CT
from iscl_monai.domain.domain import Domain
from iscl_monai.domain.micrograph import MICROGRAPH
from iscl_monai.domain.mr import MR
from iscl_monai.errors import ConfigRefusal

DOMAINS = {domain.name: domain for domain in (CT, MICROGRAPH, MR)}


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        ConfigRefusal: there is none.
    """
    if name not in DOMAINS:
        raise ConfigRefusal(f"domain {name!r}", allowed=", ".join(DOMAINS), cure="give one of them")
    return DOMAINS[name]
