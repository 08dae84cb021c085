"""The words a player and the server exchange, version 3; ``docs/protocol.md`` is the same in prose.

Client to server: small JSON objects, read by ``read_message``, which trusts nothing it is given.
Server to client: ``hello``, ``making``, ``effects`` as JSON, frames as binary messages made by ``pack_frame``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = [
    "MAX_MESSAGE_BYTES",
    "PROTOCOL",
    "Ack",
    "Act",
    "CloseCode",
    "Effects",
    "Message",
    "Pause",
    "ProtocolError",
    "Record",
    "Reset",
    "Rewind",
    "Sample",
    "SingleStep",
    "pack_frame",
    "read_message",
]

PROTOCOL = 3
MAX_MESSAGE_BYTES = 4096  # an action of a 256-wide continuous stream fits
MAX_ID = 2**32 - 1  # ids travel back in a uint32
MAX_SEED = 2**63 - 1  # what torch.Generator takes
_TERMINATED, _TRUNCATED = 1, 2

MAX_REWIND = 10_000  # steps; no history is longer
MAX_TEMPERATURE, MAX_STEPS = 10.0, 64  # what SamplerConfig takes

# version, encoding, flags, waiting: uint8; sequence, step, input id: uint32; reward, total, milliseconds: float32
FRAME_HEADER = struct.Struct("<BBBBIIIfff")


class CloseCode:
    """Codes a connection is closed with; 4000 and up are ours, the rest is RFC 6455."""

    BAD_MESSAGE = 1008
    WORLD_FAILED = 1011
    SERVER_FULL = 4000
    IDLE = 4001
    TOO_FAST = 4002
    NO_WORLD = 4003


class ProtocolError(Exception):
    """A connection that must end, with the code and the reason its client is told."""

    def __init__(self, reason: str, code: int = CloseCode.BAD_MESSAGE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Act:
    """Take an action: once in a turn-based world, until the next one in a real-time world."""

    id: int
    actions: Mapping[str, Any] = field(default_factory=dict)
    """Stream name -> id or list of numbers, unchecked; absent streams rest."""


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Start a new episode."""

    id: int
    seed: int | None = None
    start: int | None = None
    """Number of a moment of ``/api/starts``; None lets the world choose."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Stop or continue a real-time world."""

    paused: bool


@dataclass(frozen=True, kw_only=True)
class Ack:
    """The client has shown a frame; allows the server to send another."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class SingleStep:
    """Take one step of a real-time world that is paused, with the actions that hold."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Rewind:
    """Go back to an earlier moment of the episode; a real-time world is paused there."""

    id: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw the frames to come in another way."""

    temperature: float
    steps: int
    """Passes per frame."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Show what each action does from here."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Keep what is played from here on, or write what was kept."""

    on: bool


Message = Act | Reset | Pause | Ack | SingleStep | Rewind | Sample | Effects | Record


def read_message(text: str) -> Message:
    """Read one client message.

    Raises:
        ProtocolError: If it is not JSON, not a known message, or a field is missing, surplus or out of range.
    """
    if len(text) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("a message must be one JSON object") from None
    if not isinstance(value, dict):
        raise ProtocolError("a message must be one JSON object")
    kind = value.pop("type", None)
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ProtocolError(f"the type of a message is {', '.join([*_READERS][:-1])} or {[*_READERS][-1]}")
    message = reader(value)
    if value:
        raise ProtocolError(f"a message of type {kind} has unknown fields")
    return message


def _reset(value: dict[str, Any]) -> Reset:
    seed = _integer(value, "seed", MAX_SEED) if "seed" in value else None
    start = _integer(value, "start", MAX_ID) if "start" in value else None
    return Reset(id=_integer(value, "id", MAX_ID), seed=seed, start=start)


def _sample(value: dict[str, Any]) -> Sample:
    temperature = value.pop("temperature", None)
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 <= temperature <= MAX_TEMPERATURE:
        raise ProtocolError(f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}")
    return Sample(temperature=float(temperature), steps=_integer(value, "steps", MAX_STEPS, least=1))


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "act": lambda value: Act(id=_integer(value, "id", MAX_ID), actions=_mapping(value, "actions")),
    "reset": _reset,
    "pause": lambda value: Pause(paused=_boolean(value, "paused")),
    "step": lambda value: SingleStep(id=_integer(value, "id", MAX_ID)),
    "rewind": lambda value: Rewind(
        id=_integer(value, "id", MAX_ID), steps=_integer(value, "steps", MAX_REWIND, least=1)
    ),
    "sample": _sample,
    "effects": lambda value: Effects(),
    "record": lambda value: Record(on=_boolean(value, "on")),
    "ack": lambda value: Ack(sequence=_integer(value, "sequence", MAX_ID)),
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _integer(value: dict[str, Any], name: str, most: int, least: int = 0) -> int:
    number = value.pop(name, None)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ProtocolError(f"{name} must be a whole number from {least} to {most}")
    return number


def _boolean(value: dict[str, Any], name: str) -> bool:
    flag = value.pop(name, None)
    if not isinstance(flag, bool):
        raise ProtocolError(f"{name} must be true or false")
    return flag


def _mapping(value: dict[str, Any], name: str) -> dict[str, Any]:
    mapping = value.pop(name, {})
    if not isinstance(mapping, dict):
        raise ProtocolError(f"{name} must be an object")
    return mapping


def pack_frame(
    image: bytes,
    *,
    encoding: int,
    sequence: int,
    step: int,
    input_id: int,
    reward: float,
    total: float,
    milliseconds: float,
    terminated: bool,
    truncated: bool,
    waiting: int = 0,
) -> bytes:
    """Put the 28-byte header before an encoded image.

    Args:
        image: Its bytes.
        encoding: How they are to be read.
        sequence: Number of this frame on this connection; gaps are frames that were skipped.
        step: Steps since the episode began.
        input_id: Id of the newest act or reset this frame shows; 0 when there was none.
        reward: Reward of this step.
        total: Sum of rewards of the episode.
        milliseconds: Time the world took for this step.
        terminated: The episode has ended.
        truncated: The episode was cut.
        waiting: Moves that wait for the model, those of other players included; more than 255 count as 255.
    """
    flags = _TERMINATED * terminated | _TRUNCATED * truncated
    header = FRAME_HEADER.pack(
        PROTOCOL,
        encoding,
        flags,
        min(waiting, 255),
        sequence & MAX_ID,
        step & MAX_ID,
        input_id,
        reward,
        total,
        milliseconds,
    )
    return header + image
