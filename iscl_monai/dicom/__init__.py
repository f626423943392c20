"""DICOM: read CT series or refuse them, write derived ones; nothing here is imported before it is needed.

``find`` says what lies in a folder, ``series`` reads one series as Hounsfield units, ``enhanced`` one multi-frame
image, ``monai_io`` hands series to MONAI. Only ``monai_io`` knows torch and MONAI; importing it needs neither pydicom
nor SimpleITK.
"""
