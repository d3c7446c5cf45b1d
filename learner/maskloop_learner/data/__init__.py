"""Labelled data sets on disk: prompt workbooks, the MedCLIPSeg folder layout, and what is wrong with them."""


class DataError(ValueError):
    """A data set that cannot be read as asked; the message names the file, what was found and what to do."""
