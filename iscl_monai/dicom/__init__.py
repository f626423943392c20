"""DICOM: read CT series or refuse them, write derived ones; nothing here is imported before it is needed.

``find`` says what lies in a folder, ``series`` reads one series as Hounsfield units, ``enhanced`` one multi-frame
image, ``monai_io`` hands series to MONAI. Only ``monai_io`` knows torch and MONAI; importing it needs neither pydicom
nor SimpleITK.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType
from typing import cast

_OF_PYTHON_2 = ("dl", "DLFCN")
_hidden = {name: sys.modules.get(name) for name in _OF_PYTHON_2}
# gdcm, which pydicom imports to decode JPEG, tries these two first; a folder "dl" in the working folder of
# "python -m ..." would be taken for one of them, and end every command.
sys.modules.update(dict.fromkeys(_OF_PYTHON_2, cast(ModuleType, None)))
with suppress(ImportError):
    import gdcm as gdcm
for _name, _module in _hidden.items():
    sys.modules.pop(_name)
    if _module is not None:
        sys.modules[_name] = _module
