"""Messages: parsing, refusals, actions, and the layout of frames."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reelworld.serve.controls import Controls
from reelworld.serve.encodings import ENCODINGS, JPEG, PNG, RAW, choose_encoding
from reelworld.serve.protocol import Ack, Act, FrameMessage, Pause, ProtocolError, Reset, read_message
from reelworld.types import ActionSpec

GOOD = {
    '{"type":"act","id":7,"actions":{"action":1}}': Act(id=7, actions={"action": 1}),
    '{"type":"act","id":0}': Act(id=0, actions={}),
    '{"type":"reset","id":1}': Reset(id=1, seed=None),
    '{"type":"reset","id":1,"seed":5}': Reset(id=1, seed=5),
    '{"type":"pause","paused":true}': Pause(paused=True),
    '{"type":"ack","sequence":4294967295}': Ack(sequence=2**32 - 1),
}
BAD = {
    "": "one JSON object",
    "[]": "one JSON object",
    "7": "one JSON object",
    "[" * 4000: "one JSON object",
    '{"type":"act","id":NaN}': "one JSON object",
    "9" * 4090: "one JSON object",
    "{" + " " * 5000 + "}": "at most 4096 bytes",
    '{"type":"open","path":"/etc/passwd"}': "act, reset, pause, step",
    '{"type":["act"],"id":1}': "act, reset, pause, step",
    '{"type":"act"}': "id must be a whole number",
    '{"type":"act","id":1.5}': "id must be a whole number",
    '{"type":"act","id":true}': "id must be a whole number",
    '{"type":"act","id":-1}': "id must be a whole number",
    '{"type":"act","id":4294967296}': "id must be a whole number",
    '{"type":"act","id":1,"colour":2}': "unknown fields",
    '{"type":"reset","id":1,"seed":null}': "seed must be a whole number",
    '{"type":"pause","paused":1}': "paused must be true or false",
}


@pytest.mark.parametrize("text", GOOD)
def test_messages_are_read(text):
    assert read_message(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_bad_messages_are_refused_with_a_reason(text):
    with pytest.raises(ProtocolError, match=BAD[text]) as error:
        read_message(text)
    assert len(error.value.reason.encode()) <= 123  # what fits a WebSocket close frame


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.builds(json.dumps, JSON | st.fixed_dictionaries({"type": JSON, "id": JSON})))
def test_any_text_is_a_message_or_a_refusal(text):
    try:
        message = read_message(text)
    except ProtocolError as error:
        assert len(error.reason.encode()) <= 123
    else:
        assert isinstance(message, Act | Reset | Pause | Ack)


def test_frames_are_laid_out_as_the_protocol_page_says():
    frame = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    header = FrameMessage(
        sequence=9, step=4, input_id=2, reward=0.5, total_reward=-1.5, milliseconds=3.25, truncated=True, n_pending=3
    )
    message = header.pack(PNG.number, PNG.encode(frame))
    assert struct.unpack("<4B3I3f", message[:28]) == (4, 1, 2, 3, 9, 4, 2, 0.5, -1.5, 3.25)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(message[28:]))), frame)


def test_actions_become_arrays_and_absent_streams_rest():
    move = ActionSpec(kind="discrete", n=3, null=2)
    arm = ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 5.0), null=(0.0, 1.0))
    controls = Controls({"move": move, "arm": arm})
    assert not controls.is_turn_based
    read = controls.parse({"arm": [0.25, 5]})
    assert read["move"].tolist() == [2] and read["move"].dtype == np.int64
    assert read["arm"].tolist() == [[0.25, 5.0]] and read["arm"].dtype == np.float32
    assert controls.null()["arm"].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "actions",
    [
        [1],
        None,
        {"jump": 1},
        {"move": 3},
        {"move": -1},
        {"move": 1.0},
        {"move": True},
        {"move": None},
        {"move": "0"},
        {"move": [0]},
        {"arm": 0.5},
        {"arm": [0.0]},
        {"arm": [0.0, 0.0, 0.0]},
        {"arm": [0.0, "1"]},
        {"arm": [0.0, True]},
        {"arm": [2.0, 0.0]},
        {"arm": [float("inf"), 0.0]},
        {"arm": [float("nan"), 0.0]},
        {"arm": [10**400, 0.0]},
    ],
)
def test_actions_that_do_not_fit_are_refused(actions):
    arm = ActionSpec(kind="continuous", n=2, low=(-1.0, 0.0), high=(1.0, 5.0))
    controls = Controls({"move": ActionSpec(kind="discrete", n=3, null=0), "arm": arm})
    with pytest.raises(ProtocolError) as error:
        controls.parse(actions)
    assert len(error.value.reason.encode()) <= 123


def test_streams_without_a_key_map_get_one():
    discrete = Controls({"a": ActionSpec(kind="discrete", n=3)}).describe()["a"]["keys"]
    assert discrete == {"Digit1": 0, "Digit2": 1, "Digit3": 2}
    spec = ActionSpec(kind="continuous", n=2, low=(-2.0, 0.0), high=(2.0, 1.0), null=(0.0, 0.0))
    continuous = Controls({"a": spec}).describe()["a"]["keys"]
    assert continuous == {"ArrowLeft": [-2.0, 0.0], "ArrowRight": [2.0, 0.0], "ArrowUp": [0.0, 1.0]}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_raw_frames_are_laid_out_as_the_protocol_page_says():
    frame = noise(7, 300)
    assert RAW.encode(frame) == struct.pack("<2H", 300, 7) + b"".join(bytes(p) for row in frame for p in row)


def test_jpeg_keeps_thin_red_lines_red():
    """With colour at half resolution they would be pink smears."""
    frame = np.full((160, 160, 3), 90, np.uint8)
    frame[:, ::8] = (255, 0, 0)
    shown = np.asarray(Image.open(io.BytesIO(JPEG.encode(frame)))).astype(int)
    assert shown.shape == frame.shape and np.abs(shown - frame).max() <= 40


@pytest.mark.parametrize(
    ("takes", "size", "name"),
    [
        ("raw,jpeg", (64, 64), "raw"),
        ("raw,jpeg", (64, 65), "png"),
        ("raw,jpeg", (128, 128), "png"),
        ("raw,jpeg", (128, 129), "jpeg"),
        ("raw", (256, 256), "png"),
        ("jpeg", (64, 64), "png"),
        ("", (64, 64), "png"),
        ("rawjpeg", (64, 64), "png"),
        ("hologram,png,,raw", (8, 8), "raw"),
    ],
)
def test_what_a_client_takes_and_the_size_decide_the_encoding(takes, size, name):
    assert choose_encoding(takes, *size).name == name


def test_the_protocol_page_lists_the_encodings():
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert [f"| {e.number} | `{e.name}` |" in page for e in ENCODINGS] == [True] * 3
