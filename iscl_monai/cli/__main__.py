"""``python -m iscl_monai.cli`` is ``iscl-monai``."""

from iscl_monai.cli import main
from iscl_monai.console import import_nothing_from_working_folder

import_nothing_from_working_folder()
main()
