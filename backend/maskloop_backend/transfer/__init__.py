"""Images and masks into Label Studio, and labels out of the pool: folders, COCO, MedCLIPSeg's layout, data sets."""


class TransferError(ValueError):
    """An import or export that cannot begin; the message names what is wrong and what to do."""


class Refused(ValueError):
    """One file that cannot be taken; the message says why. Its neighbours go on."""


class WrongCall(ValueError):
    """Options that do not fit together or to the source; the message says which to give."""
