"""Typed configs as JSON: round trips, and one-line errors for invalid files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from reelworld.config import from_json, read_json, to_json
from reelworld.files import write_json
from reelworld.types import ActionSpec, UserError


@dataclass(frozen=True, kw_only=True)
class Everything:
    """One field of each kind that configs use."""

    whole: int
    real: float = 0.5
    choice: Literal["a", "b"] = "a"
    several: tuple[int, ...] = (1, 2)
    pair: tuple[int, int] | int | None = None
    where: Path = Path("x")
    anything: Any = None
    streams: Mapping[str, ActionSpec] = field(default_factory=dict)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    spec = ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 1.0), keys={"KeyA": (1.0, 0.0)})
    given = Everything(whole=3, real=2, choice="b", pair=(4, 5), where=tmp_path, streams={"move": spec})
    write_json(tmp_path / "config.json", given)
    assert from_json(Everything, read_json(tmp_path / "config.json")) == given
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"whole": "3"}, "whole is '3'; wanted int"),
        ({"whole": True}, "whole is True"),
        ({"whole": None}, "whole is None"),
        ({"real": 10**400}, "real is a number too large"),
        ({"choice": "c"}, "unknown value of"),
        ({"choice": ["a"]}, "unknown value of"),
        ({"several": [1, "2"]}, r"several\[1\] is '2'"),
        ({"several": "12"}, "several is '12'"),
        ({"pair": [1]}, "pair has 1 entries; 2 are needed"),
        ({"where": 1}, "where is 1"),
        ({"streams": []}, "streams is"),
        ({"streams": {"move": {"kind": "discrete"}}}, r"streams\.move lacks the field.*n"),
        ({"streams": {"move": {"kind": "discrete", "n": 0}}}, "n=0"),
        ({"hwole": 1}, "did you mean 'whole'"),
    ],
)
def test_wrong_values_are_one_line_that_names_the_field(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        from_json(Everything, {**to_json(Everything(whole=1)), **changed})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 9000, "\xff"])
def test_broken_files_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "absent.json")


def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": 1, "y": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
