"""Reading the JSON that a judge or an extractor was told to answer with: exactly one object of a strict model, or an error."""

import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)

Text = Annotated[str, AfterValidator(str.strip)]
"""Words, their ends trimmed."""
ThreeChecks = Annotated[list[bool], Field(min_length=3, max_length=3)]
"""Three times true or false."""


class Verdict(BaseModel):
    """The base of what a judge is told to answer with: no value is converted; keys that were not asked for are left out."""

    model_config = ConfigDict(strict=True, frozen=True)


V = TypeVar("V", bound=BaseModel)


def read_object(text: str, model: type[V]) -> V:
    """The one JSON object that a text is, alone or in one code fence, as `model`. Raises ValueError, quoting it, for anything else.

    >>> class Choice(Verdict):
    ...     type: str
    >>> read_object('{"type": "concept"}', Choice).type
    'concept'
    >>> read_object('{"type": 1}', Choice)
    Traceback (most recent call last):
    ValueError: type: input should be a valid string: {"type": 1}
    """
    bare = text.strip()
    fenced = _FENCE.fullmatch(bare)
    try:
        value = json.loads(fenced[1] if fenced else bare, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no single JSON object ({error}): {bare[:200]}") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}: {bare[:200]}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
