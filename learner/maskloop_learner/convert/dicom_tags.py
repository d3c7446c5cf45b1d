"""What is taken from a DICOM file: one table. Everything else is dropped before anything looks at it.

No entry is of the attributes that the Basic Application Level Confidentiality Profile (DICOM PS3.15, table
E.1-1) protects, and what leaves is a number or one of a fixed list of terms, never free text.
"""

from typing import TYPE_CHECKING, NamedTuple

from maskloop_learner.convert.source import BROKEN

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Tag(NamedTuple):
    """keyword, why it is taken, and the key of the origin that it ends in (empty: it only makes the pixels)."""

    keyword: str
    reason: str
    key: str = ""
    needed: bool = True
    """Whether a file in which it is damaged is refused."""


_LAYOUT, _MAP, _PALETTE = "how the pixels are stored", "which values are black and white", "colours of a palette"
TAKEN = (
    Tag("Rows", _LAYOUT),
    Tag("Columns", _LAYOUT),
    Tag("SamplesPerPixel", _LAYOUT),
    Tag("PlanarConfiguration", _LAYOUT),
    Tag("BitsAllocated", _LAYOUT),
    Tag("BitsStored", "the depth of the values", "bits"),
    Tag("HighBit", _LAYOUT),
    Tag("PixelRepresentation", "whether values may be negative", "signed"),
    Tag("PhotometricInterpretation", "whether 0 is black or white, or which colours", "photometric"),
    Tag("NumberOfFrames", "how many pictures there are", "frames"),
    Tag("PixelData", "the picture"),
    Tag("ExtendedOffsetTable", _LAYOUT),
    Tag("ExtendedOffsetTableLengths", _LAYOUT),
    Tag("PixelPaddingValue", "which values are no picture", "padding"),
    Tag("PixelPaddingRangeLimit", "which values are no picture", "padding"),
    Tag("RescaleSlope", "the unit of the values", "rescale"),
    Tag("RescaleIntercept", "the unit of the values", "rescale"),
    Tag("RescaleType", "the unit of the values", "rescale", needed=False),
    Tag("ModalityLUTSequence", _MAP, "rescale"),
    Tag("VOILUTSequence", _MAP, "shown_by"),
    Tag("LUTDescriptor", _MAP),
    Tag("LUTData", _MAP),
    Tag("WindowCenter", _MAP, "window"),
    Tag("WindowWidth", _MAP, "window"),
    Tag("VOILUTFunction", _MAP, "window"),
    Tag("RedPaletteColorLookupTableDescriptor", _PALETTE),
    Tag("GreenPaletteColorLookupTableDescriptor", _PALETTE),
    Tag("BluePaletteColorLookupTableDescriptor", _PALETTE),
    Tag("RedPaletteColorLookupTableData", _PALETTE),
    Tag("GreenPaletteColorLookupTableData", _PALETTE),
    Tag("BluePaletteColorLookupTableData", _PALETTE),
    Tag("SegmentedRedPaletteColorLookupTableData", _PALETTE),
    Tag("SegmentedGreenPaletteColorLookupTableData", _PALETTE),
    Tag("SegmentedBluePaletteColorLookupTableData", _PALETTE),
    Tag("SharedFunctionalGroupsSequence", "holds the tags of this table for all frames"),
    Tag("PerFrameFunctionalGroupsSequence", "holds the tags of this table for each frame"),
    Tag("PixelValueTransformationSequence", "holds the rescale of a frame"),
    Tag("FrameVOILUTSequence", "holds the window of a frame"),
    Tag("PixelMeasuresSequence", "holds the spacing of a frame"),
    Tag("PlaneOrientationSequence", "holds the orientation of a frame"),
    Tag("Modality", "which kind of image it is, one of the standard's terms", "modality", needed=False),
    Tag("PixelSpacing", "millimetres between rows and columns", "spacing", needed=False),
    Tag("ImagerPixelSpacing", "the same at the detector, where the other is missing", "spacing", needed=False),
    Tag("NominalScannedPixelSpacing", "the same on the film, where the others are missing", "spacing", needed=False),
    Tag("PixelAspectRatio", "whether pixels are square", "aspect", needed=False),
    Tag("SliceThickness", "millimetres", "thickness", needed=False),
    Tag("ImageOrientationPatient", "how rows and columns lie in the patient", "orientation", needed=False),
    Tag("BurnedInAnnotation", "whether the pixels may show who it is", "burned_in_annotation"),
    Tag("LossyImageCompression", "whether the values are exact", "lossy", needed=False),
)


def keep_taken(dataset: "Dataset") -> "Dataset":
    """A new data set of the table's tags alone, in sequences too. Raises what pydicom raises on a damaged tag."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import Dataset
    from pydicom.errors import BytesLengthException
    from pydicom.sequence import Sequence

    damage: tuple[type[Exception], ...] = (*BROKEN, BytesLengthException)
    kept = Dataset()
    for tag in TAKEN:
        number = tag_for_keyword(tag.keyword)
        if number is None or number not in dataset:
            continue
        try:
            element = dataset[number]
        except damage:
            if tag.needed:
                raise
            continue
        if element.VR == "SQ":
            element.value = Sequence([keep_taken(item) for item in element.value])
        kept[number] = element
    return kept


def count_overlays(dataset: "Dataset") -> int:
    """Planes that a viewer would draw over the picture; they are left out."""
    # Not the elements: to look at one is to parse it.
    tags = list(dataset.keys())
    return len({tag.group for tag in tags if 0x6000 <= tag.group <= 0x60FF and tag.element == 0x3000})
