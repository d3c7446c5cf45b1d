"""Brings a source into a project: pictures are uploaded and become tasks with their labels, in small batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import Refused
from maskloop_backend.transfer.converting import Options
from maskloop_backend.transfer.drawing import draw
from maskloop_backend.transfer.journal import Journal
from maskloop_backend.transfer.known import KEY, ORIGIN, Known, KnownTask, address_key, digest_masks
from maskloop_backend.transfer.names import upload_name
from maskloop_backend.transfer.parcels import VERSION, Parcel, prediction_of
from maskloop_backend.transfer.pictures import Limits, Picture, open_pictures
from maskloop_backend.transfer.report import Report
from maskloop_backend.transfer.sources import Entry, Masks, Source

PICTURES_AT_ONCE = 50
BYTES_AT_ONCE = 24_000_000
NO_FILE = "is a row of --fields without a file of this name"
HERE = "is in the project already"
TOO_MUCH = {400, 413}
"""Answers that may be about one row of a batch."""


@dataclass(frozen=True)
class Target:
    """Where and how pictures are imported."""

    client: LabelStudio
    project: int
    interface: Interface
    data_key: str
    predictions: bool = False
    """Masks become predictions instead of labels."""
    dry: bool = False


@dataclass
class Importer:
    """Imports one source. What the project has already is passed over, so it may be repeated after any end."""

    target: Target
    known: Known
    journal: Journal
    limits: Limits
    options: Options
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """File name -> more fields of its task."""
    report: Report = field(default_factory=Report)
    _waiting: list[Parcel] = field(default_factory=list)
    _weight: int = 0
    _seen: dict[str, tuple[str, Mapping[str, str] | None]] = field(default_factory=dict)

    def run(self, source: Source, *, on_entry: Callable[[], None]) -> Report:
        """Import all entries; a file that cannot be taken is refused with its reason. Raises LabelStudioError."""
        self.report.skipped += source.skipped
        self.report.refused += source.refused
        there = {name for entry in source.entries for name in (entry.name, entry.name.rsplit("/", 1)[-1])}
        self.report.skipped += [(name, NO_FILE) for name in self.fields if name not in there]
        for entry in source.entries:
            try:
                self._take(entry)
            except Refused as error:
                self.report.refused.append((entry.name, str(error)))
            on_entry()
        self._send()
        return self.report

    def _take(self, entry: Entry) -> None:
        if entry.path is None:
            self._consider(entry, Picture(address_key(entry.name), entry.name, b"", 0, 0, {}), None)
            return
        pictures = open_pictures(entry.path, entry.name, limits=self.limits, options=self.options)
        for picture, masks in entry.label(pictures):
            self._consider(entry, picture, masks)

    def _consider(self, entry: Entry, picture: Picture, masks: Masks | None) -> None:
        digests = None if masks is None else digest_masks(masks)
        name = entry.name if picture.name == entry.name else f"{entry.name} ({picture.name})"
        if picture.key in self._seen:
            first, others = self._seen[picture.key]
            if digests is not None and digests != others:
                self.report.refused.append((name, f"is the same image as {first}, with other masks"))
            else:
                self.report.skipped.append((name, "is the same image as another file"))
            return
        self._seen[picture.key] = (name, digests)
        task = self.known.tasks.get(picture.key)
        if task is not None:
            self._compare(name, task, picture, masks, digests)
            return
        body = {"data": self._describe(entry, picture, digests), **self._drawn(picture, masks)}
        if self.target.dry:
            self.report.count(masks=masks is not None)
            return
        data = None if entry.path is None else picture.data
        parcel = Parcel(picture.name, picture.key, body, data, masks is not None)
        self._waiting.append(parcel)
        self._weight += parcel.weight
        if len(self._waiting) >= PICTURES_AT_ONCE or self._weight >= BYTES_AT_ONCE:
            self._send()

    def _describe(self, entry: Entry, picture: Picture, digests: Mapping[str, str] | None) -> dict[str, Any]:
        origin = picture.origin if digests is None else {**picture.origin, "masks": dict(digests)}
        more = self.fields.get(entry.name) or self.fields.get(entry.name.rsplit("/", 1)[-1]) or {}
        data: dict[str, Any] = {**entry.fields, **more, KEY: picture.key}
        if entry.path is None:
            return {**data, self.target.data_key: entry.name}
        return {"name": picture.name, **data, ORIGIN: origin}

    def _drawn(self, picture: Picture, masks: Masks | None) -> dict[str, Any]:
        if masks is None or self.target.dry:
            return {}
        result = self._regions(picture, masks)
        if self.target.predictions:
            return {"predictions": [prediction_of(result)]}
        return {"annotations": [{"result": result, "was_cancelled": False, "lead_time": None}]}

    def _regions(self, picture: Picture, masks: Masks) -> list[dict[str, Any]]:
        return draw(masks, self.target.interface, prefix=picture.key, by_hand=not self.target.predictions)

    def _compare(
        self, name: str, task: KnownTask, picture: Picture, masks: Masks | None, digests: Mapping[str, str] | None
    ) -> None:
        """Give a task that is there the labels that it lacks, and never a second time."""
        if masks is None or digests is None or task.masks == digests:
            self.report.skipped.append((name, HERE))
            return
        target = self.target
        result = self._regions(picture, masks)
        if target.predictions:
            if target.client.predictions_index(target.project, VERSION, tasks=[task.id]):
                self.report.skipped.append((name, f"{HERE}, with imported predictions"))
                return
        elif task.labelled:
            if self.known.has_labels(task.id, result, width=picture.width, height=picture.height):
                self.report.skipped.append((name, HERE))
            else:
                told = f"task {task.id} shows it with other labels; delete these in Label Studio to import the masks"
                self.report.refused.append((name, told))
            return
        if target.predictions and not target.dry:
            target.client.import_predictions(target.project, [{"task": task.id, **prediction_of(result)}])
        elif not target.dry:
            target.client.create_annotation(task.id, result)
        self.report.added += 1

    def _send(self) -> None:
        """Upload what waits and make tasks of it; where Label Studio refuses, one by one."""
        parcels, self._waiting, self._weight = self._waiting, [], 0
        if not parcels:
            return
        try:
            self._deliver(parcels)
        except LabelStudioError as error:
            if error.status not in TOO_MUCH:
                raise
            if len(parcels) == 1:
                self.report.refused.append((parcels[0].name, f"Label Studio refuses it: {error.said}"))
                return
            for parcel in parcels:
                self._waiting = [parcel]
                self._send()
            return
        for parcel in parcels:
            self.report.count(masks=parcel.masks)

    def _deliver(self, parcels: list[Parcel]) -> None:
        target = self.target
        files = [(upload_name(parcel.name, parcel.data), parcel.data) for parcel in parcels if parcel.data is not None]
        addresses = iter(target.client.upload_files(target.project, files) if files else [])
        tasks = []
        for parcel in parcels:
            address = {} if parcel.data is None else {target.data_key: next(addresses)}
            tasks.append({**parcel.task, "data": {**address, **parcel.task["data"]}})
        with self.journal.sending([parcel.key for parcel in parcels]):
            target.client.import_tasks(target.project, tasks)
