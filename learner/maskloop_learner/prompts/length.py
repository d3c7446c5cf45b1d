"""Prompts that a model cannot read to their end."""

from collections.abc import Callable


def check_length(text: str, *, context: int, tokens_of: Callable[[str], int]) -> str | None:
    """A warning when a prompt is longer than the model's `context` in tokens, with the words that are read; else None.

    `tokens_of` counts the tokens of a text with those that mark its start and end.
    """
    count = tokens_of(text)
    if count <= context:
        return None
    words = text.split()
    # Counted, not cut out of the tokens: a tokenizer need not give its text back.
    kept = next((n for n in range(len(words) - 1, 0, -1) if tokens_of(" ".join(words[:n])) <= context), 0)
    return (
        f"{text!r} has {count} tokens, the model reads {context}: it sees {' '.join(words[:kept])!r} "
        f"and nothing of the rest; shorten it"
    )
