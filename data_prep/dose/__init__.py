"""Low dose, simulated: whole series, volumes and tables of them, by :mod:`iscl_monai.scanner.dose`."""
