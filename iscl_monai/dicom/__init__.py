"""DICOM: read CT series or refuse them, write derived ones; nothing here is imported before it is needed.

``find`` says what lies in a folder, ``series`` reads one series as Hounsfield units, ``monai_io`` hands it
to MONAI. Only ``monai_io`` knows torch and MONAI; importing it needs neither pydicom nor SimpleITK.
"""
