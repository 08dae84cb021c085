"""Messages between client and server, version 4; ``docs/protocol.md`` specifies them.

Client to server: small JSON objects, validated by ``read_message``.
Server to client: JSON objects, and frames as binary messages made by ``FrameMessage.pack``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

PROTOCOL = 4
MAX_MESSAGE_BYTES = 4096  # an action of a 256-wide continuous stream fits
MAX_ID = 2**32 - 1  # ids are sent back as uint32
MAX_SEED = 2**63 - 1  # limit of torch.Generator
MAX_REWIND = 10_000  # steps; no rewind buffer is longer
MAX_TEMPERATURE, MAX_SAMPLER_STEPS = 10.0, 64  # limits of SamplerConfig
_TERMINATED, _TRUNCATED = 1, 2

# version, encoding, flags, n_pending: uint8; sequence, step, input id: uint32; reward, total, milliseconds: float32
FRAME_HEADER = struct.Struct("<BBBBIIIfff")


class CloseCode:
    """WebSocket close codes: 4000 and up are this protocol's, the rest is RFC 6455."""

    BAD_MESSAGE = 1008
    WORLD_FAILED = 1011
    SERVER_FULL = 4000
    IDLE = 4001
    TOO_FAST = 4002
    NO_WORLD = 4003


class ProtocolError(Exception):
    """Protocol violation that closes a connection, with the code and the reason for its client."""

    def __init__(self, reason: str, code: int = CloseCode.BAD_MESSAGE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Act:
    """Take an action: once in a turn-based world, until the next one in a real-time world."""

    id: int
    actions: object = field(default_factory=dict)
    """Stream name -> id or list of numbers, absent streams rest; validated by ``Controls.parse``."""


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Start a new episode."""

    id: int
    seed: int | None = None
    initial_context: int | None = None
    """Index of a clip of ``/api/initial-contexts``; None uses the world's default."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Pause or continue a real-time world."""

    paused: bool


@dataclass(frozen=True, kw_only=True)
class Ack:
    """Acknowledge a frame, so that the server may send another."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class SingleStep:
    """Take one step of a paused real-time world, with the held actions."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Rewind:
    """Return to an earlier step of the episode; a real-time world is paused there."""

    id: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Change the sampling settings of the next frames."""

    temperature: float
    steps: int
    """Sampling passes per frame."""


@dataclass(frozen=True, kw_only=True)
class ActionPreviews:
    """Request a preview of each action from the current state."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Start or stop recording."""

    on: bool


Message = Act | Reset | Pause | Ack | SingleStep | Rewind | Sample | ActionPreviews | Record


@dataclass(frozen=True, kw_only=True)
class FrameMessage:
    """One frame with its header."""

    sequence: int
    """Number of the frame on its connection; gaps are skipped frames."""
    step: int
    """Steps since the episode started."""
    input_id: int
    """Id of the newest input that the frame shows; 0 before the first."""
    reward: float = 0.0
    """Reward of this step."""
    total_reward: float = 0.0
    """Sum of rewards of the episode."""
    milliseconds: float
    """Duration of the step."""
    terminated: bool = False
    truncated: bool = False
    n_pending: int = 0
    """Steps that wait for the model, of all clients; 255 at most."""

    def pack(self, encoding: int, image: bytes) -> bytes:
        """Return the 28-byte header followed by the encoded image."""
        header = FRAME_HEADER.pack(
            PROTOCOL,
            encoding,
            _TERMINATED * self.terminated | _TRUNCATED * self.truncated,
            min(self.n_pending, 255),
            self.sequence & MAX_ID,
            self.step & MAX_ID,
            self.input_id,
            self.reward,
            self.total_reward,
            self.milliseconds,
        )
        return header + image


def read_message(text: str) -> Message:
    """Parse and validate one client message; the actions of an ``Act`` are left to ``Controls.parse``.

    Raises:
        ProtocolError: If it is not JSON, not a known message, or a field is missing, unknown or out of range.
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


def _reset(value: dict[str, object]) -> Reset:
    seed = _integer(value, "seed", MAX_SEED) if "seed" in value else None
    context = _integer(value, "initial_context", MAX_ID) if "initial_context" in value else None
    return Reset(id=_integer(value, "id", MAX_ID), seed=seed, initial_context=context)


def _sample(value: dict[str, Any]) -> Sample:
    temperature = value.pop("temperature", None)
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 <= temperature <= MAX_TEMPERATURE:
        raise ProtocolError(f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}")
    return Sample(temperature=float(temperature), steps=_integer(value, "steps", MAX_SAMPLER_STEPS, least=1))


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    "act": lambda value: Act(id=_integer(value, "id", MAX_ID), actions=value.pop("actions", {})),
    "reset": _reset,
    "pause": lambda value: Pause(paused=_boolean(value, "paused")),
    "step": lambda value: SingleStep(id=_integer(value, "id", MAX_ID)),
    "rewind": lambda value: Rewind(
        id=_integer(value, "id", MAX_ID), steps=_integer(value, "steps", MAX_REWIND, least=1)
    ),
    "sample": _sample,
    "action_previews": lambda value: ActionPreviews(),
    "record": lambda value: Record(on=_boolean(value, "on")),
    "ack": lambda value: Ack(sequence=_integer(value, "sequence", MAX_ID)),
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _integer(value: dict[str, object], name: str, most: int, least: int = 0) -> int:
    number = value.pop(name, None)
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ProtocolError(f"{name} must be a whole number from {least} to {most}")
    return number


def _boolean(value: dict[str, object], name: str) -> bool:
    flag = value.pop(name, None)
    if not isinstance(flag, bool):
        raise ProtocolError(f"{name} must be true or false")
    return flag
