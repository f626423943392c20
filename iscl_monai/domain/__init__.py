"""What kind of images a training and its weights are for: CT, micrographs, MR magnitude.

Everything that differs between them is a :class:`Domain`; nobody else asks which one it is.
"""

from iscl_monai.domain.ct import CT
from iscl_monai.domain.domain import Domain
from iscl_monai.domain.micrograph import MICROGRAPH
from iscl_monai.domain.mr import MR
from iscl_monai.domain.named import DOMAINS, domain_named

__all__ = ["CT", "DOMAINS", "MICROGRAPH", "MR", "Domain", "domain_named"]
