"""Files that a browser cannot show become PNGs: TIFF, DICOM and NIfTI, with an origin and without identities.

pydicom and nibabel are imported where they are used, so that a process that converts nothing stays light.
"""
