"""What `jaxsim run` left in a folder, held against what is needed of it before any of it is used."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from jaxsim._archive import told
from jaxsim._check import LARGEST_SEED
from jaxsim.analysis import VERDICTS
from jaxsim.driver import LARGEST_HORIZON

if TYPE_CHECKING:
    import pandas
    import pyarrow

DEEPEST = 32  # objects in objects
Lanes = Annotated[int, Field(ge=1, le=2**32)]
Count = Annotated[int, Field(ge=0, le=2**32)]
Steps = Annotated[int, Field(ge=1, le=LARGEST_HORIZON["float64"])] | Annotated[float, Field(ge=1, le=1e300)]


class Part(pydantic.BaseModel):
    """Part of a file: no guessing of types; what nobody asks for may be there."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Proportion(Part):
    """Lanes of one verdict."""

    count: Count
    total: Lanes
    low: float
    high: float
    level: Annotated[float, Field(gt=0, lt=1)]


class Aligned(Part):
    """Lanes that point along their limits."""

    global_: Proportion = Field(alias="global")
    local: Proportion


class Errors(Part):
    """Medians of lanes that ended global, and local."""

    global_: float | None = Field(alias="global")
    local: float | None


class Rate(Part):
    """A fitted rate."""

    law: Literal["power", "inverse-log"]
    slope: float | None
    low: float | None
    high: float | None
    lanes: Count
    refused: str | None = None


class Summary(Part):
    """One run of summary.json."""

    rule: str
    rule_name: str | None = None
    label: str | None = None
    lanes: Lanes
    steps: Steps
    verdicts: dict[str, Proportion]
    verdicts_by_direction: Aligned
    median_direction_error: Errors
    median_log10_attention_gap: float | None
    median_log10_grad_norm: float | None
    median_norm: float | None
    rate: Rate
    distinct_selections: Count

    @pydantic.field_validator("verdicts")
    @classmethod
    def _all(cls, verdicts: dict[str, Proportion], info: pydantic.ValidationInfo) -> dict[str, Proportion]:
        lanes = info.data.get("lanes")
        if set(verdicts) != set(VERDICTS):
            raise ValueError(f"expected {', '.join(VERDICTS)}")
        if lanes is not None and sum(p.count for p in verdicts.values()) != lanes:
            raise ValueError(f"expected {lanes} lanes in all; got {sum(p.count for p in verdicts.values())}")
        return verdicts


class Settings(Part):
    """Of settings.json, what a report says in words."""

    lanes: Lanes
    init: str
    command: str = ""


class Given(Part):
    """Of settings.json, what was typed."""

    rule: Annotated[list[str], Field(min_length=1)]
    init: str


class Asked(Part):
    """Of settings.json, what a replay asks first."""

    given: Given
    lanes: Lanes


class How(Part):
    """Of settings.json, what a replay needs further."""

    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)]
    steps: Steps
    dtype: Literal["float32", "float64"]
    loss: str
    train: str
    scale: float | None
    width: int | None
    nuclear: bool
    batch: int | None
    heads: int | None = None  # which earlier versions did not have
    max_step: Annotated[float, Field(gt=0)]


def read_json(path: Path, who: str) -> dict[str, Any]:
    """The object of a JSON file.

    Args:
        path: the file.
        who: the command, for the message.

    Raises:
        ValueError: where it cannot be read, is no object, or is nested too deeply; the message names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{who}: cannot read {os.fspath(path)!r}: {told(error)}") from error
    except ValueError as error:
        raise ValueError(f"{who}: {os.fspath(path)!r} is not JSON ({told(error)})") from error
    try:
        content = json.loads(text, parse_constant=_refused)
        level = [content]
        for _ in range(DEEPEST):
            nested = [v for v in level if isinstance(v, dict | list)]
            level = [inner for v in nested for inner in (v.values() if isinstance(v, dict) else v)]
        if level:
            raise RecursionError
        # Halves of characters are no text, but for those that stand for the bytes of a file's name.
        json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{who}: {os.fspath(path)!r} is not JSON ({told(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{who}: {os.fspath(path)!r}: expected an object; got {_brief(content)}")
    return content


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def hold(kind: Any, content: Any, path: Path, who: str) -> None:
    """Hold content against a type that pydantic knows.

    Raises:
        ValueError: with the file, the first key that is wrong, what was expected and what came.
    """
    try:
        pydantic.TypeAdapter(kind).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        said = said if said.startswith("expected") else f"expected {said}"
        reason = "missing" if first["type"] == "missing" else f"{said}; got {_brief(first['input'])}"
        raise ValueError(f"{who}: {os.fspath(path)!r}: {key}: {reason}") from None


def read_summary(path: Path, who: str) -> dict[str, list[dict[str, Any]]]:
    """The runs of summary.json by problem: the same rules for each.

    Raises:
        ValueError: where that is not what the file holds; the message names it.
    """
    content = read_json(path, who)
    hold(Annotated[dict[str, Annotated[list[Summary], Field(min_length=1)]], Field(min_length=1)], content, path, who)
    rules = [[run["rule"] for run in runs] for runs in content.values()]
    if any(others != rules[0] for others in rules):
        raise ValueError(f"{who}: {os.fspath(path)!r}: expected the same rules for every problem")
    return content


def read_table(
    path: Path, columns: Mapping[str, str], who: str, filters: Sequence[tuple[str, str, Any]] | None = None
) -> "pandas.DataFrame":
    """Some columns of a Parquet file, each of its kind: text, whole, number, truth or tokens.

    Raises:
        ValueError: where the file cannot be read, or a column is missing or of another kind; the message names both.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not path.is_file():
            raise OSError(2, "no such file")
        schema = pq.read_schema(path)
        for name, kind in columns.items():
            if name not in schema.names:
                raise ValueError(f"{name}: missing")
            if not _is(kind, schema.field(name).type):
                raise ValueError(f"{name}: expected {kind}; got {schema.field(name).type}")
        table = pq.read_table(path, columns=list(columns), filters=filters)
        for name, kind in columns.items():
            if kind != "number" and table[name].null_count:
                raise ValueError(f"{name}: expected {kind}; got nothing in {table[name].null_count} rows")
        return table.to_pandas(ignore_metadata=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{who}: cannot read {os.fspath(path)!r}: {told(error)}") from error


def _is(kind: str, of: "pyarrow.DataType") -> bool:
    import pyarrow.types as t

    inner = of.value_type if t.is_dictionary(of) else of
    match kind:
        case "text":
            return t.is_string(inner) or t.is_large_string(inner)
        case "whole":
            return t.is_integer(of)
        case "number":
            return t.is_integer(of) or t.is_floating(of)
        case "truth":
            return t.is_boolean(of)
    return (t.is_list(of) or t.is_large_list(of)) and t.is_integer(of.value_type)


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
