"""Words of a prompt that say where in the image something lies: nobody knows that before the image is labelled.

English. A location is a place in the image or in the organ that it shows ("top right", "left lower lobe", "at 3
o'clock"). Names that only hold such a word are none ("left ventricle", "posterior shadowing", "right breast").
"""

import re
from collections.abc import Iterable

_SIDE = r"(?:left|right)"
_IMAGED_ALONE = r"(?:breast|eye|knee|hip|hand|foot|wrist|ankle|elbow|shoulder|arm|leg|ear|thigh|femur|tibia|humerus)s?"
_VIEW = r"(?:view|projection|radiograph|x-?ray|chest x-?ray|chest radiograph|oblique)s?"
_NAMES = (
    rf"{_SIDE} (?:ventric\w*|atri\w*|heart|coronary|bundle)",
    rf"{_SIDE} {_IMAGED_ALONE}",
    rf"{_SIDE}[- ]angled?",
    r"lateral ventricles?",
    r"(?:superior|inferior) vena cava",
    r"(?:anterior|posterior) chamber",
    r"(?:upper|lower) (?:gi|gastro\w*|limb|extremit\w+|jaw|lip|eyelid)\b",
    r"(?:upper|lower) (?:contrast|resolution|quality|bound|limit|dose|grade|intensity|signal|density|echogenicity)",
    rf"(?:antero|postero)?-?(?:frontal|lateral|anterior|posterior|superior|mediolateral|craniocaudal) {_VIEW}",
    r"postero-?anterior|antero-?posterior",
    r"(?:posterior|lateral|distal|edge) (?:acoustic )?(?:shadow\w*|enhancement|attenuation)",
    r"central (?:line|venous|catheter|necrosis|gland|nervous)",
    r"(?:central|peripheral|transition(?:al)?) zone",
    r"middle[- ](?:aged?|ear)",
    r"mid[- ]?gr[ae]y",
    r"middle cerebral",
    r"top[- ](?:quality|down)",
)
"""Names, looks and ways of imaging that hold a word of place but tell none."""

_PLACES = (
    rf"{_SIDE}(?:most|wards?|-sided|-hand)?",
    r"top(?:most)?|bottom(?:most)?|upper(?:most)?|lower(?:most)?",
    r"cent(?:er|re)s?|central(?:ly)?|middle|mid(?=[ -])|midline|corners?",
    r"quadrants?|hemispheres?|bilateral(?:ly)?|unilateral(?:ly)?",
    r"medial(?:ly)?|lateral(?:ly)?|anterior(?:ly)?|posterior(?:ly)?|superior(?:ly)?|inferior(?:ly)?",
    r"proximal(?:ly)?|distal(?:ly)?|cranial(?:ly)?|caudal(?:ly)?|apical|basal|peripher(?:al|ally|y)|dorsal|ventral",
    r"(?:supra)?sellar?|parasellar|cerebell\w+|thalam\w+|basal ganglia|brain ?stem|corpus callosum",
    r"(?:fronto|temporo|parieto|occipito)?-?(?:frontal|temporal|parietal|occipital)",
    r"(?:retro|sub|peri)areolar|axillary|(?:peri)?hilar",
    r"(?:head|neck|body|tail) of the pancreas|pancreatic (?:head|neck|body|tail)",
    r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)(?::\d\d)? ?o['’]?clock",
    r"(?:near|at|along|on|toward|towards|by) the (?:edge|border|margin|rim|periphery|side)\b",
    r"(?:above|below|beneath|behind|beside|adjacent to|next to) (?:the|a|an|its)\b",
    r"\d+(?:\.\d+)? ?(?:mm|cm|px|pixels?|%|percent) (?:from|above|below|left|right)",
    r"[xy] ?[=:] ?\d+(?:\.\d+)?",
    r"\( ?\d+(?:\.\d+)? ?[,;] ?\d+(?:\.\d+)? ?\)",
)
"""What tells a place. A number alone tells a size or a count."""

_NAME = re.compile(rf"(?<!\w)(?:{'|'.join(_NAMES)})(?!\w)", re.IGNORECASE)
_PLACE = rf"(?<!\w)(?:{'|'.join(_PLACES)})(?!\w)"
_RUN = re.compile(rf"{_PLACE}(?:(?: ?, ?| ?/ ?|-| )(?:and |or )?{_PLACE})*", re.IGNORECASE)
_CODE = re.compile(r"\b(?:RUL|RML|RLL|LUL|LLL|UOQ|UIQ|LOQ|LIQ)\b")
"""Lobes of the lungs and quadrants of the breast, as written in reports."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")


def find_location(text: str, *, allow: str | Iterable[str] = ()) -> str | None:
    """The first words of the text that tell where something lies, as written; None when none do.

    Words of the names in `allow` do not count: a label "Left lung" may be called so.
    """
    names = [allow] if isinstance(allow, str) else list(allow)
    words = {word.casefold() for name in names for word in _WORD.findall(name)}
    # Blanked, not cut out: places stay where they are in the text.
    bare = _NAME.sub(lambda found: "\0" * len(found[0]), text)
    for found in sorted([*_RUN.finditer(bare), *_CODE.finditer(bare)], key=lambda each: each.start()):
        if not {word.casefold() for word in _WORD.findall(found[0])} <= words:
            return text[found.start() : found.end()]
    return None
