"""``python -m iscl_monai.cli`` is ``iscl-monai``."""

from iscl_monai.cli import main

main()
