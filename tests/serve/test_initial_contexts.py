"""Initial contexts: recorded clips and untrusted images."""

from __future__ import annotations

import base64
import http.client
import io
import json
import struct
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.serve.client import Client, get
from tests.serve.squares import SIZE, SquareWorld, film_world, picture, running, turn_world

from reelworld.data.episodes import DataInfo, Episode
from reelworld.data.formats.episode_folder import write_episode, write_info
from reelworld.serve.config import Limits
from reelworld.serve.initial_contexts import MAX_INITIAL_CONTEXTS, decode_image, sample_initial_contexts
from reelworld.types import ActionSpec, Clip, UserError


def moments() -> list[Clip]:
    return [Clip(frames=np.stack([picture(0, 0), picture(x, 3)]), actions={"action": np.array([1, 2])}) for x in (2, 5)]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def upload(address: str, player: str, content: bytes, id: object = 7) -> tuple[int, str]:
    url = f"http://{address}/api/image?player={player}&id={id}"
    request = urllib.request.Request(url, data=content, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_game_begins_at_a_recorded_moment_with_its_actions():
    world = turn_world(initial_contexts=moments())
    with running(world) as address, Client(address) as client:
        assert client.hello["initial_contexts"] == 2
        with get(address, "/api/initial-contexts") as answer:
            images = [base64.b64decode(start["image"]) for start in json.load(answer)["initial_contexts"]]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(images[1]))), picture(5, 3))
        client.frame()
        client.send(type="reset", id=3, initial_context=1)
        frame = client.frame()
        assert (frame["step"], frame["input"], frame["cell"]) == (0, 3, (5, 3))
        assert world.contexts[0][1]["action"].tolist() == [1]
        client.send(type="reset", id=4, initial_context=2)
        code, reason = client.closing()
        assert code == 1008 and "less than 2" in reason


def test_of_many_moments_a_few_are_offered():
    world = turn_world()
    world.initial_contexts = [
        Clip(frames=picture(i % 8, i // 8)[None], actions={}) for i in range(MAX_INITIAL_CONTEXTS + 1)
    ]
    with running(world) as address, Client(address) as client:
        with get(address, "/api/initial-contexts") as answer:
            assert (
                len(json.load(answer)["initial_contexts"]) == MAX_INITIAL_CONTEXTS == client.hello["initial_contexts"]
            )
        client.frame()
        client.send(type="reset", id=1, initial_context=MAX_INITIAL_CONTEXTS - 1)
        assert client.frame()["cell"] == (7, 2)
        client.send(type="reset", id=2, initial_context=MAX_INITIAL_CONTEXTS)
        assert client.closing()[0] == 1008


def test_a_game_begins_at_a_picture():
    with running(turn_world()) as address, Client(address) as client:
        client.frame()
        assert upload(address, client.hello["player"], encoded(Image.fromarray(picture(4, 2))))[0] == 200
        frame = client.frame()
        assert (frame["step"], frame["input"], frame["cell"]) == (0, 7, (4, 2))


def test_a_picture_is_shown_as_often_as_the_world_needs():
    world = turn_world(least_context=2)
    with running(world) as address, Client(address) as client:
        client.frame()
        assert upload(address, client.hello["player"], encoded(Image.fromarray(picture(1, 1))))[0] == 200
        assert client.frame()["cell"] == (1, 1)
    assert [frames.shape[0] for frames, _ in world.contexts] == [3]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_of_any_size_are_brought_to_the_world(kind, mode):
    image = Image.new(mode, (90, 30), 200 if mode == "L" else (200, 200, 200))
    frame = decode_image(encoded(image, kind), 8, 16, 10_000)
    assert frame.shape == (8, 16, 3) and frame.dtype == np.uint8 and abs(int(frame.mean()) - 200) <= 2


def test_transparent_is_black_and_pictures_are_turned_upright():
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert decode_image(encoded(clear), 4, 4, 100).max() == 0
    two = Image.fromarray(np.repeat(np.array([[[255] * 3], [[0] * 3]], np.uint8), 2, 1).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = decode_image(encoded(two, "PNG", exif=exif), 16, 16, 10_000)
    assert turned[0].max() == 0 and turned[-1].min() == 255


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a vast picture."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


BAD = {
    "nothing": (b"", "no image"),
    "text": (b"hello", "no image"),
    "gif": (encoded(Image.new("RGB", (4, 4)), "GIF"), "no image"),
    "bmp": (encoded(Image.new("RGB", (4, 4)), "BMP"), "no image"),
    "tiff": (encoded(Image.new("RGB", (4, 4)), "TIFF"), "no image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
    "truncated": (encoded(Image.effect_noise((64, 64), 50))[:900], "damaged"),
    "100 megapixels": (bomb(10_000, 10_000), "at most"),
    "billions": (bomb(2**31 - 1, 2**31 - 1), "at most|too large"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_gets_one_clear_answer_and_the_game_goes_on(turns, name):
    content, reason = BAD[name]
    with pytest.raises(UserError, match=reason):
        decode_image(content, SIZE, SIZE, 1 << 24)
    with Client(turns) as client:
        client.frame()
        status, text = upload(turns, client.hello["player"], content)
        assert status == 415 and "\n" not in text
        client.send(type="act", id=1, actions={"action": 0})
        assert client.frame()["cell"] == (1, 0)


def test_uploads_have_limits():
    limits = Limits(upload_bytes=1000, upload_seconds=0.5)
    with running(turn_world(), limits) as address, Client(address) as client:
        client.frame()
        player = client.hello["player"]
        assert upload(address, player, b"x" * 1001)[0] == 413
        assert upload(address, player, encoded(Image.fromarray(picture(4, 2))))[0] == 429
        deadline = time.monotonic() + 10
        while (status := upload(address, player, encoded(Image.fromarray(picture(4, 2))))[0]) == 429:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert status == 200
        assert client.frame()["cell"] == (4, 2)


def test_a_picture_that_dribbles_in_keeps_its_player_from_sending_others():
    """Else each could hold its bytes in memory for as long as it likes."""
    with running(turn_world(), Limits(upload_seconds=0)) as address, Client(address) as client:
        player, content = client.hello["player"], encoded(Image.fromarray(picture(4, 2)))
        slow = http.client.HTTPConnection(address, timeout=10)
        slow.putrequest("POST", f"/api/image?player={player}&id=1")
        slow.putheader("Content-Length", str(len(content)))
        slow.endheaders(content[:10])
        deadline = time.monotonic() + 10
        while upload(address, player, content)[0] != 429 and time.monotonic() < deadline:
            time.sleep(0.01)  # the first bytes are still on their way
        assert upload(address, player, content)[0] == 429
        slow.send(content[10:])
        with slow.getresponse() as answer:
            assert answer.status == 200
        slow.close()
        assert upload(address, player, content)[0] == 200


def test_an_upload_without_an_end_is_cut_off():
    """It is answered at the limit; waiting for the end would take as much memory as somebody sends."""
    with running(turn_world(), Limits(upload_bytes=1000)) as address, Client(address) as client:
        endless = http.client.HTTPConnection(address, timeout=10)
        endless.putrequest("POST", f"/api/image?player={client.hello['player']}&id=1")
        endless.putheader("Content-Length", str(1 << 40))
        endless.endheaders(b"x" * 1500)
        with endless.getresponse() as answer:
            assert answer.status == 413
        endless.close()


@pytest.mark.parametrize(
    ("player", "id", "status"), [("nobody", 1, 404), ("", 1, 404), (None, "x", 400), (None, 2**40, 400)]
)
def test_uploads_are_for_players_who_are_there(turns, player, id, status):
    with Client(turns) as client:
        assert upload(turns, client.hello["player"] if player is None else player, b"x", id)[0] == status


def test_a_player_who_left_gets_no_pictures_any_more():
    with running(turn_world()) as address:
        with Client(address) as client:
            player = client.hello["player"]
        deadline = time.monotonic() + 10
        while upload(address, player, b"x")[0] != 404 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert upload(address, player, b"x")[0] == 404


def test_moments_of_a_data_set_fit_the_world(tmp_path):
    spec = ActionSpec(kind="discrete", n=3)
    frames = np.stack([picture(x % 8, 1) for x in range(12)])
    clip = Clip(frames=frames, actions={"action": np.arange(12) % 3})
    write_episode(tmp_path / "one.npz", clip)
    info = DataInfo(height=SIZE, width=SIZE, actions={"action": spec})
    write_info(tmp_path, info, [Episode(source="one", n_frames=12, split="test", file="one.npz")])

    def contexts(world: SquareWorld) -> list[Clip]:
        return sample_initial_contexts(tmp_path, world.spec, world.info.provenance)

    clips = contexts(turn_world())
    assert len(clips) == 24 and {c.frames.shape for c in clips} == {(3, SIZE, SIZE, 3)}
    for clip in clips:
        first = int((clip.frames[0] == (255, 0, 0)).all(-1).any(0).argmax()) // 4
        assert any(np.array_equal(clip.action, np.arange(s, s + 3) % 3) for s in (first, first + 8))
    assert len(contexts(film_world())) == 24
    slow = turn_world()
    slow.info.provenance = {"config": {"frame_stride": 2}}
    slow.spec = replace(slow.spec, context=(1, 2, None), actions={"action": replace(spec, repeat=2)})
    for clip in contexts(slow):  # every second frame, with two actions each
        first = int((clip.frames[0] == (255, 0, 0)).all(-1).any(0).argmax()) // 4
        assert len(clip.frames) == 2 and int((clip.frames[1] == (255, 0, 0)).all(-1).any(0).argmax()) // 4 == first + 2
        assert any(np.array_equal(clip.action[0], np.arange(s, s + 2) % 3) for s in (first, first + 8))
    world = turn_world()
    world.spec = replace(world.spec, actions={"jump": spec})
    with pytest.raises(UserError, match="lacks the actions"):
        contexts(world)
    world.spec = replace(world.spec, actions={"action": ActionSpec(kind="discrete", n=4)})
    with pytest.raises(UserError, match="has 3 discrete actions 'action', this world 4"):
        contexts(world)
