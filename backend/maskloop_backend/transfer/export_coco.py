"""Labels as COCO: instances.json with compressed run lengths, beside the images."""

import json
from collections.abc import Callable, Sequence

from maskloop_backend.transfer.coco import LABELLED
from maskloop_backend.transfer.coco_masks import encode_segmentation
from maskloop_backend.transfer.export_files import Files, Left, Spool, describe, load_rows, write_manifest
from maskloop_backend.transfer.folders import MADE_BY, Folder
from maskloop_backend.transfer.labelled import Labelled
from maskloop_learner.pool.schema import utcnow

INSTANCES = "instances.json"


def write_coco(folder: Folder, labelled: Labelled, labels: Sequence[int], on_row: Callable[[], None]) -> Left:
    """One annotation for each mask that has a pixel; all images are labelled, those without annotation have nothing."""
    facts = labelled.facts
    left, files = Left(), Files(folder, facts.labels, images="images", masks="")
    categories = {label: number for number, label in enumerate(facts.labels, 1)}
    count = 0
    with Spool() as items, Spool() as images, Spool() as annotations:
        for number, (row, data, masks) in enumerate(load_rows(labelled, labels, left, on_row), 1):
            image = files.image(row, data)
            items.add(describe(row, image, None, folder))
            images.add(
                {
                    "id": number,
                    "file_name": image.removeprefix("images/"),
                    "width": row.width,
                    "height": row.height,
                    "split": row.split,
                    LABELLED: True,
                }
            )
            for label, mask in masks.items():
                if not mask.any():
                    continue
                count += 1
                segmentation, area, box = encode_segmentation(mask)
                annotations.add(
                    {
                        "id": count,
                        "image_id": number,
                        "category_id": categories[label],
                        "segmentation": segmentation,
                        "area": area,
                        "bbox": box,
                        "iscrowd": 0,
                    }
                )
        info = {"description": f"{facts.title}, {MADE_BY}", "date_created": utcnow().isoformat(timespec="seconds")}
        rows = [{"id": number, "name": label, "supercategory": ""} for label, number in categories.items()]
        with folder.rows(INSTANCES) as file:
            file.text('{"info": ' + json.dumps(info, ensure_ascii=False) + ',\n"licenses": [],\n"categories": ')
            file.text(json.dumps(rows, ensure_ascii=False) + ',\n"images": ')
            file.array(iter(images))
            file.text(',\n"annotations": ')
            file.array(iter(annotations))
            file.text("}\n")
        write_manifest(folder, facts, "coco", items, left, {})
    return left
