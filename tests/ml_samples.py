"""Models as users of label-studio-ml 2.x write them; ML_BASE chooses the base class, as a changed import line does."""

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING and os.environ.get("ML_BASE") == "label_studio_ml":
    from label_studio_ml.model import LabelStudioMLBase, predict_fn, update_fn
    from label_studio_ml.response import ModelResponse
    from label_studio_sdk.label_interface.objects import PredictionValue
else:
    from maskloop_backend.ml_base import LabelStudioMLBase, ModelResponse, PredictionValue, predict_fn, update_fn

Task = dict[str, Any]
Context = dict[str, Any] | None


def note(text: Any, **more: Any) -> dict[str, Any]:
    """A prediction whose text tells the test what the model saw."""
    value = {"text": [json.dumps(text)]}
    return {"result": [{"from_name": "note", "to_name": "image", "type": "textarea", "value": value}], **more}


class Brush(LabelStudioMLBase):
    """Draws the same small mask on every image, with names out of the label config."""

    def setup(self) -> None:
        self.set("model_version", "brush-1")

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> ModelResponse:
        from_name, to_name, value = self.get_first_tag_occurence("BrushLabels", "Image")
        labels = self.label_interface.get_control(from_name).labels
        region = {
            "from_name": from_name,
            "to_name": to_name,
            "type": "brushlabels",
            "original_width": 2,
            "original_height": 1,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": [0, 0, 0, 8, 57, 192], "brushlabels": [next(iter(labels))]},
        }
        assert all(value in task["data"] for task in tasks)
        return ModelResponse(predictions=[PredictionValue(result=[region], score=0.5) for _ in tasks])


class Witness(LabelStudioMLBase):
    """Says what it was given, and counts and remembers the events it was fitted with."""

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> list[dict[str, Any]]:
        seen = {
            "project": self.project_id,
            "context": context,
            "kwargs": kwargs,
            "config": self.label_config,
            "parsed": self.parsed_label_config,
            "version": str(self.model_version),
            "params": self.extra_params,
            "events": json.loads(self.get("events") or "[]"),
            "has": [self.has("events"), self.has("never")],
        }
        return [note({**seen, "task": task["id"]}, score=0.25, model_version="own") for task in tasks]

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        annotation = data.get("annotation")
        number = annotation.get("id") if isinstance(annotation, dict) else None
        events = [*json.loads(self.get("events") or "[]"), [event, number, sorted(data)]]
        self.set("events", json.dumps(events))
        self.set("model_version", f"1.{len(events)}.0")
        return {"events": len(events)}


class Bare(Witness):
    """A class with a state of its own, for webhooks without payload."""


class Interactive(LabelStudioMLBase):
    """Answers what an annotator typed, and nothing when a task is only opened."""

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> ModelResponse:
        if not context or not context.get("result"):
            return ModelResponse(predictions=[])
        typed = context["result"][0]["value"]["text"][0]
        return ModelResponse(predictions=[note(typed, score=0.75)], model_version="typed-1")


class Several(LabelStudioMLBase):
    """Two predictions for each task, of two versions."""

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> ModelResponse:
        pairs = [[PredictionValue(**note("a", model_version="a")), PredictionValue(**note("b"))] for _ in tasks]
        return ModelResponse(predictions=pairs, model_version="b")


class Regions(LabelStudioMLBase):
    """Makes its regions with label-studio-sdk's control tags, and maps a model's labels to the config's."""

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> ModelResponse:
        control = self.label_interface.get_control("choice")
        labels = self.build_label_map("choice", ["cat", "tabby", "DOG", "bird"])
        region = control.label(labels["tabby"])
        texts = [self.preload_task_data(task, task["data"]) for task in tasks]
        return ModelResponse(
            predictions=[PredictionValue(result=[region, *note([labels, text])["result"]]) for text in texts]
        )


class Versions(LabelStudioMLBase):
    """Bumps its version on START_TRAINING."""

    INITIAL_MODEL_VERSION = "3.4.5"

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> list[dict[str, Any]]:
        return [note(self.get("model_version")) for _ in tasks]

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> None:
        self.bump_model_version()


class Wrong(LabelStudioMLBase):
    """Returns what the first task's data asks for."""

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> Any:
        kind = tasks[0]["data"]["kind"]
        if kind == "raise":
            raise KeyError("no such weights")
        if kind == "exit":
            raise SystemExit(3)
        answers: dict[str, Any] = {
            "too few": [note("x")],
            "too many": [note("x")] * 9,
            "not finite": [note("x", score=0.5), note("x", score=float("nan"))],
            "infinite region": [note(float(1)), {"result": [{"value": {"x": float("inf")}}]}],
            "no score": [note("x", score="high")] * 2,
            "no result": [{"score": 0.5}] * 2,
            "text": "a mask",
            "no json": [note("x"), {"result": [{"value": object()}]}],
            "nothing": None,
            "some": [note("x"), None],
        }
        return answers[kind]


class Slow(LabelStudioMLBase):
    """Fits for a while, fails or dies when the event says so, and predicts slowly when the task says so."""

    running = 0
    lock = threading.Lock()

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> list[dict[str, Any]]:
        with Slow.lock:
            Slow.running += 1
        time.sleep(float(tasks[0]["data"].get("seconds", 0)))
        with Slow.lock:
            most, Slow.running = Slow.running, Slow.running - 1
        return [note({"log": json.loads(self.get("log") or "[]"), "running": most, "pid": os.getpid()}) for _ in tasks]

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> None:
        annotation = data["annotation"]
        self._log("begin", annotation["id"])
        time.sleep(annotation.get("seconds", 0))
        if annotation.get("fail"):
            raise ValueError(f"cannot learn from {annotation['id']}")
        if annotation.get("die"):
            os.kill(os.getpid(), 9)
        self._log("end", annotation["id"])

    def _log(self, what: str, number: int) -> None:
        self.set("log", json.dumps([*json.loads(self.get("log") or "[]"), [what, number]]))


class Kept(LabelStudioMLBase):
    """Is kept between requests, and says how often it was made and used."""

    REUSE = True
    made = 0

    def setup(self) -> None:
        Kept.made += 1
        self.used = 0
        self.set("model_version", self.get("learnt") or "kept-0")

    def predict(self, tasks: list[Task], context: Context = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.used += 1
        return [note({"made": Kept.made, "used": self.used, "version": self.get("model_version")}) for _ in tasks]

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> None:
        self.set("learnt", "kept-1")


@predict_fn
def predict_anything(tasks: list[Task], context: Context, helper: LabelStudioMLBase, **kwargs: Any) -> list[Any]:
    """Serves the base class itself."""
    return [note({"project": helper.project_id, "updates": helper.get("updates")}) for _ in tasks]


@update_fn
def update_anything(event: str, data: dict[str, Any], helper: LabelStudioMLBase, **kwargs: Any) -> None:
    """Remembers the event."""
    helper.set("updates", event)
