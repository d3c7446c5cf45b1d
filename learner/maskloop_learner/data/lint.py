"""What a data set's sheets and files would do to figures measured on it."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from maskloop_learner.data.files import similar
from maskloop_learner.data.findings import Finding
from maskloop_learner.data.layout import VARIANTS, Dataset, Item, Part, Split, sheet_name, walk_sheets
from maskloop_learner.data.sheets import Row, SheetError, read_sheet
from maskloop_learner.pool.images import ImageError, decode_image

LOCATION = re.compile(
    r"\b(left|right|top|bottom|upper|lower|cent(?:er|re|ral)|middle|mid|corner|bilateral|unilateral"
    r"|medial|lateral|anterior|posterior|superior|inferior|quadrant|hemisphere|o'?clock"
    r"|frontal|temporal|parietal|occipital|cerebell\w*|ventric\w*|sellar?|suprasellar|thalam\w*"
    r"|(?:head|neck|body|tail)(?= of the pancreas)|(?<=pancreatic )(?:head|neck|body|tail))\b",
    re.IGNORECASE,
)
"""Words that say where in the image something lies, or in which part of the organ."""


@dataclass(frozen=True)
class SheetFacts:
    """What one sheet holds."""

    sheet: str
    rows: int
    """Rows with distinct images."""
    usable: int
    """Of these, rows whose image and mask are there."""
    prompts: int
    """Distinct prompts."""
    location_share: float
    """Share of the rows whose prompt has a location word, 0..1; 0 without rows."""


@dataclass(frozen=True)
class LintReport:
    """A data set's sheets and all that is to be said of them."""

    dataset: str
    sheets: tuple[SheetFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no problem; notes are allowed."""
        return all(finding.level != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dataset": self.dataset,
            "healthy": self.healthy,
            "sheets": [asdict(facts) for facts in self.sheets],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def lint_dataset(dataset: Dataset, *, on_file: Callable[[int, int], None] = lambda done, total: None) -> LintReport:
    """Read every sheet and every file that a sheet names; `on_file` gets the files done and their number."""
    known = dict(walk_sheets(dataset))
    findings = [
        Finding("unknown-sheet", "no command reads this workbook: its name is none of the layout's", sheet=name)
        for name in dataset.sheets
        if name not in known
    ]
    parts: dict[str, Part] = {}
    for name, split in known.items():
        try:
            parts[name] = dataset.resolve(read_sheet(dataset.sheets[name]), split)
        except SheetError as error:
            findings.append(Finding("unreadable-sheet", str(error), sheet=name))
    for name, part in parts.items():
        findings += part.findings
        findings += look_at_prompts(name, part.sheet.rows)
    findings += compare_sheets(parts)
    findings += find_shared_names(parts)
    findings += look_at_files(parts, known, on_file)
    facts = tuple(describe(name, part) for name, part in parts.items())
    return LintReport(dataset.name, facts, tuple(findings))


def describe(name: str, part: Part) -> SheetFacts:
    """Counts of one sheet."""
    rows = part.sheet.rows
    return SheetFacts(name, len(rows), len(part.items), len({row.prompt for row in rows}), share_of_location(rows))


def location_words(prompt: str) -> list[str]:
    """The words of a prompt that tell where the lesion is, in lower case."""
    return [match.group(0).casefold() for match in LOCATION.finditer(prompt)]


def share_of_location(rows: Iterable[Row]) -> float:
    """Share of the rows whose prompt has a location word, 0..1; 0 without rows."""
    leaks = [bool(location_words(row.prompt)) for row in rows]
    return sum(leaks) / len(leaks) if leaks else 0.0


def look_at_prompts(name: str, rows: tuple[Row, ...]) -> list[Finding]:
    """An empty sheet, and prompts that give the answer away."""
    if not rows:
        return [Finding("empty-sheet", "the sheet has no rows", sheet=name)]
    words = Counter(word for row in rows for word in set(location_words(row.prompt)))
    if not words:
        return []
    common = ", ".join(f"{word} {count}" for word, count in words.most_common(4))
    share = share_of_location(rows)
    told = f"{share:.0%} of the prompts say where the lesion is ({common}); nobody knows that of an unlabelled image"
    return [Finding("location", told, sheet=name)]


def compare_sheets(parts: Mapping[str, Part]) -> list[Finding]:
    """Prompt variants of other images than the original ones, and shares that are not part of the larger share."""
    images = {name: {row.image for row in part.sheet.rows} for name, part in parts.items()}
    found = []
    original = images.get("Test_text_original")
    for variant in VARIANTS:
        name = sheet_name("test", prompts=variant)
        if original is not None and name in images and images[name] != original:
            odd = len(images[name] ^ original)
            found.append(Finding("other-images", f"{odd} images are in one of it and Test_text_original", sheet=name))
    for stem in ("Train_text", "Val_text"):
        ladder = [name for name in (f"{stem}_10", f"{stem}_25", f"{stem}_50", stem) if name in images]
        for small, large in pairwise(ladder):
            if outside := len(images[small] - images[large]):
                told = f"{outside} of its {len(images[small])} images are not in {large}: the shares do not grow"
                found.append(Finding("not-nested", told, sheet=small))
    return found


def find_shared_names(parts: Mapping[str, Part]) -> list[Finding]:
    """Images that the whole sheets of two splits both name, whether the files are there or not."""
    found, seen = [], dict[str, str]()
    for name in ("Train_text", "Val_text", "Test_text_original"):
        for row in parts[name].sheet.rows if name in parts else ():
            first = seen.setdefault(row.image, name)
            if first != name:
                found.append(Finding("same-name", f"{row.image!r} is in {first} too", sheet=name, name=row.image))
    return found


def look_at_files(
    parts: Mapping[str, Part], splits: Mapping[str, Split], on_file: Callable[[int, int], None]
) -> list[Finding]:
    """Files that cannot be read, sizes that differ, and the same picture (byte for byte) in two splits."""
    items: dict[tuple[Path, Path], tuple[str, Item]] = {}
    for name, part in parts.items():
        for item in part.items:
            items.setdefault((item.image, item.mask), (name, item))
    found: list[Finding] = []
    seen: dict[str, tuple[Split, Item]] = {}
    for done, (name, item) in enumerate(items.values(), 1):
        digest = hashlib.sha256(item.image.read_bytes()).hexdigest()
        split = splits[name]
        first_split, first = seen.setdefault(digest, (split, item))
        # A name that is in both is told already, by the sheets alone.
        if first_split != split and first.name != item.name:
            told = f"{item.name!r} is the same picture as {first.name!r} of the {first_split} split"
            found.append(Finding("same-image", told, sheet=name, name=item.name))
        found += _look_at_sizes(name, item)
        on_file(done, len(items))
    return found


def _look_at_sizes(sheet: str, item: Item) -> list[Finding]:
    try:
        image, mask = _decode(item.image), _decode(item.mask)
    except (ImageError, OSError) as error:
        return [Finding("unreadable", str(error), sheet=sheet, name=item.name)]
    if image.size == mask.size:
        return []
    sizes = f"{item.name!r} has {image.width} x {image.height} pixels, its mask {mask.width} x {mask.height}"
    if similar(image.size, mask.size):
        return [Finding("scaled", f"{sizes}; the mask is scaled", sheet=sheet, name=item.name)]
    return [Finding("size", f"{sizes}; it cannot be used", sheet=sheet, name=item.name)]


def _decode(path: Path) -> Pillow.Image:
    return decode_image(path.read_bytes(), name=str(path))
