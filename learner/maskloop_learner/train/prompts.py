"""What each example of a step is asked by: its own prompt, one that says less, or one that says that nothing is there.

Serving does not know all that a label's prompt may tell, so training leaves some of it out at random.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.prompts.location import find_location
from maskloop_learner.train.examples import Example, ExampleSet, TrainingError

NEGATIVE_SHARE = 0.25
"""How often a label that is known to be absent is asked for by its negative form, where it has one."""

TEXTS_AT_ONCE = 64
"""Between two looks whether the training is to end."""


@dataclass(frozen=True)
class PromptTable:
    """The texts that a training asks by, as tokens, and which of them serve each label of each example."""

    tokens: Tensor
    """[T, context] int64; the first L are the labels' own prompts."""
    own: Tensor
    """[N, L] rows of `tokens`."""
    lesser: list[list[tuple[int, ...]]]
    """[N][L] rows of `tokens` that say less."""
    negative: list[int | None]
    """[L] rows of `tokens`, None where there is none."""
    dropout: float
    """How often one that says less is taken, 0..1."""
    plain: bool
    """Every example is asked by the labels' prompts at every step."""

    def choose(self, data: ExampleSet, chosen: Sequence[int], *, seed: int, step: int) -> Tensor:
        """Tokens of a step's examples: [L, context] where all are asked alike, else [B, L, context].

        The choice follows from seed and step, so a training that was killed goes on with the same prompts.
        """
        labels = len(self.negative)
        if self.plain:
            return self.tokens[:labels]
        generator = torch.Generator().manual_seed(prompt_seed(seed, step))
        chance = torch.rand((len(chosen), labels, 3), generator=generator, dtype=torch.float64).tolist()
        rows = torch.empty((len(chosen), labels), dtype=torch.int64)
        for b, k in enumerate(chosen):
            for label in range(labels):
                drop, which, deny = chance[b][label]
                row, lesser, negative = int(self.own[k, label]), self.lesser[k][label], self.negative[label]
                if lesser and drop < self.dropout:
                    row = lesser[int(which * len(lesser))]
                if negative is not None and deny < NEGATIVE_SHARE and is_absent(data, k, label):
                    row = negative
                rows[b, label] = row
        return self.tokens[rows.to(self.tokens.device)]


def read_prompts(
    model: MedCLIPSeg,
    data: ExampleSet,
    labels: Sequence[str],
    prompts: Mapping[str, str],
    *,
    dropout: float = 0.0,
    negatives: Mapping[str, str] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> PromptTable:
    """The table of a training; `tick` is called now and then and may raise.

    Raises TrainingError when a label has no prompt or two have the same.

    An example's own prompt that would ask for two labels alike is left for the labels' prompts; so is each form that
    says less.
    """
    if not 0 <= dropout <= 1:
        raise TrainingError(f"prompt_dropout must be in 0..1, got {dropout!r}")
    texts = {}
    for label, row in zip(labels, distinct_tokens(model, labels, prompts), strict=True):
        texts[prompts[label]] = row
    # Forms that are never taken are none: without dropout the same texts give the same table.
    less = [{x: tuple(each.get(x, ())) if dropout else () for x in labels} for each in data.lesser]
    extra = [own[x] for own in data.prompts for x in labels if x in own]
    extra += [text for each in less for forms in each.values() for text in forms]
    denials = {label: text for label, text in (negatives or {}).items() if label in labels}
    wanted = [text for text in dict.fromkeys([*extra, *denials.values()]) if text not in texts]
    for at in range(0, len(wanted), TEXTS_AT_ONCE):
        tick()
        some = wanted[at : at + TEXTS_AT_ONCE]
        texts.update(zip(some, model.tokens(some), strict=True))
    place = {text: row for row, text in enumerate(texts)}
    tokens = torch.stack(list(texts.values()))
    key = [row.tobytes() for row in tokens.cpu().numpy()]
    own, lesser = [], []
    for mine, forms in zip(data.prompts, less, strict=True):
        rows = keep_apart([place[mine.get(x, prompts[x])] for x in labels], key)
        own.append(rows)
        lesser.append(forms_apart([[place[text] for text in forms[x]] for x in labels], rows, key))
    negative = [place[denials[label]] if label in denials else None for label in labels]
    plain = not any(data.prompts) and not denials and not any(forms for each in lesser for forms in each)
    return PromptTable(tokens, torch.tensor(own), lesser, negative, dropout, plain)


def all_texts(
    data: ExampleSet, prompts: Mapping[str, str], negatives: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Every text that a training may ask by."""
    yield from prompts.values()
    yield from (negatives or {}).values()
    for own, lesser in zip(data.prompts, data.lesser, strict=True):
        yield from own.values()
        for forms in lesser.values():
            yield from forms


def keep_apart(rows: list[int], key: Sequence[bytes]) -> list[int]:
    """An example's rows, one a label; where two labels would be asked alike, those take their labels' own (row l)."""
    kept = list(rows)
    # Each turn gives at least one label its own row, and those are all distinct.
    while alike := [at for at, row in enumerate(kept) if row != at and sum(key[row] == key[k] for k in kept) > 1]:
        for at in alike:
            kept[at] = at
    return kept


def forms_apart(forms: Sequence[Sequence[int]], rows: Sequence[int], key: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Of each label's forms those that no other label of the same example may be asked by."""
    kept = []
    for label, each in enumerate(forms):
        others = [at for at in range(len(rows)) if at != label]
        taken = {key[row] for at in others for row in (at, rows[at], *forms[at])}
        kept.append(tuple(row for row in each if key[row] not in taken))
    return kept


def is_absent(data: ExampleSet, example: int, label: int) -> bool:
    """Whether the label was looked for on the example and is not there."""
    return bool(data.known[example, label]) and not bool(data.masks[example, label].any())


def distinct_tokens(model: MedCLIPSeg, labels: Sequence[str], prompts: Mapping[str, str]) -> Tensor:
    """Tokens of the labels' prompts [L, context]. Raises TrainingError when two labels look the same."""
    if missing := [label for label in labels if not prompts.get(label, "").strip()]:
        raise TrainingError(f"label {missing[0]!r} has no prompt; give each label a few words")
    tokens = model.tokens([prompts[label] for label in labels])
    seen: dict[bytes, str] = {}
    for label, row in zip(labels, tokens.cpu().numpy(), strict=True):
        twin = seen.setdefault(row.tobytes(), label)
        if twin != label:
            raise TrainingError(
                f"labels {twin!r} and {label!r} have the same prompt within the first {len(row)} tokens: "
                f"{prompts[label]!r}; the model tells labels apart by their prompts alone, so change one"
            )
    return tokens


def validation_prompts(example: Example, prompts: Mapping[str, str]) -> dict[str, str]:
    """What an example is validated with: label -> prompt for the labels that were looked for on it.

    The example's own, unless that tells where the finding is: then the label's.
    """
    found = {}
    for label, text in prompts.items():
        own = (example.prompts or {}).get(label, text)
        if example.knows(label):
            found[label] = own if own == text or find_location(own, allow=label) is None else text
    return found


def prompt_seed(seed: int, step: int) -> int:
    """63 bits for the prompts of one step, apart from all other chance of that step."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} prompts".encode()).digest()[:8], "big") >> 1
