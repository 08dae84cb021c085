import json
import shutil

import numpy as np
import pytest

from reelworld.data.clip_index import ClipIndex
from reelworld.data.code_store import CodeStore, CodeStoreWriter
from reelworld.data.episodes import DataInfo, Episode
from reelworld.data.loader import Loader
from reelworld.types import ActionSpec, GridSpec, TokenSpec, UserError

INFO = DataInfo(fps=5.0, height=16, width=16, actions={"action": ActionSpec(kind="discrete", n=4, names=tuple("abcd"))})
EPISODES = [
    Episode(source=f"long#{i}", n_frames=9 + i, split=s, file="long.npz", first=9 * i)
    for i, s in enumerate(("train", "val", "test", "train"))
]
TOKENS = TokenSpec(grids={"video": GridSpec(rows=2, columns=2, codebook_size=64)})


def writer(folder, **changes):
    arguments = {"info": INFO, "episodes": EPISODES, "tokens": TOKENS, "identity": "abc", **changes}
    return CodeStoreWriter(folder, **arguments)


def codes_of(i):
    rng = np.random.default_rng(i)
    n = EPISODES[i].n_frames
    steps = {"actions/action": rng.integers(0, 4, n), "rewards": rng.random(n).astype(np.float32)}
    return rng.integers(0, 64, (n, 4)), steps


def test_a_store_is_written_in_pieces_and_read_by_window(tmp_path):
    first = writer(tmp_path / "s")
    assert first.missing() == [0, 1, 2, 3]
    for i in (2, 0):
        first.write(i, *codes_of(i))
    with pytest.raises(UserError, match="not finished"):
        CodeStore.open(tmp_path / "s")
    with pytest.raises(UserError, match="lacks the codes of 2"):
        first.finish()
    second = writer(tmp_path / "s")
    assert second.missing() == [1, 3]
    (tmp_path / "s" / "000002.npz").write_bytes(b"half a file")
    shutil.copy(tmp_path / "s" / "000000.npz", tmp_path / "s" / "000001.npz")  # of another length
    assert second.missing() == [1, 2, 3]
    for i in second.missing():
        second.write(i, *codes_of(i))
    second.finish()

    store = CodeStore.open(tmp_path / "s")
    assert (store.dataset.info, store.tokens, store.identity) == (INFO, TOKENS, "abc")
    assert [store.dataset.indices(s) for s in ("train", "val", "test", "all")] == [[0, 3], [1], [2], [0, 1, 2, 3]]
    for i in range(4):
        codes, steps = codes_of(i)
        got = store.dataset.arrays(i, 1, 8, 2)
        assert got["codes"].dtype == np.uint16
        np.testing.assert_array_equal(got["codes"], codes[1:8:2])
        np.testing.assert_array_equal(got["actions/action"][:3], steps["actions/action"][1:7].reshape(3, 2))
        np.testing.assert_allclose(got["rewards"][:3], steps["rewards"][1:7].reshape(3, 2).sum(1))
    batch = next(Loader(ClipIndex(store.dataset, "train", 4), 3, 0).batches())
    assert batch.codes.video.shape == (3, 4, 4)


def test_codes_of_another_tokenizer_are_refused(tmp_path):
    writer(tmp_path / "s")
    with pytest.raises(UserError, match="another tokenizer"):
        writer(tmp_path / "s", identity="other")
    with pytest.raises(UserError, match="another tokenizer or data set"):
        writer(tmp_path / "s", episodes=EPISODES[:2])
    with pytest.raises(UserError, match="time stride 4"):
        writer(tmp_path / "t", tokens=TokenSpec(grids=TOKENS.grids, time_stride=4))


def test_large_codebooks_and_bad_stores(tmp_path):
    large = TokenSpec(grids={"video": GridSpec(rows=2, columns=2, codebook_size=70_000)})
    w = writer(tmp_path / "s", tokens=large, episodes=EPISODES[:1])
    w.write(0, np.full((9, 4), 69_999), {})
    store = w.finish()
    assert store.dataset.arrays(0, 0, 9)["codes"].max() == 69_999
    with pytest.raises(UserError, match="split is 'dev'"):
        store.dataset.indices("dev")
    values = json.loads((tmp_path / "s" / "store.json").read_text())
    (tmp_path / "s" / "store.json").write_text(json.dumps({**values, "format_version": 7}))
    with pytest.raises(UserError, match="format version 7"):
        CodeStore.open(tmp_path / "s")
    with pytest.raises(UserError, match="no code store"):
        CodeStore.open(tmp_path)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_float_latents_stay_floats(tmp_path, kind):
    """Stored in the precision that the tokenizer gives, and read by window and into batches as they are."""
    latents = TokenSpec(grids={"video": GridSpec(rows=2, columns=2, latent_width=3)})
    values = np.random.default_rng(0).standard_normal((9, 4, 3)).astype(kind)
    w = writer(tmp_path / "s", tokens=latents, episodes=EPISODES[:1])
    w.write(0, values, {"rewards": np.zeros(9, np.float32)})
    store = w.finish()
    got = store.dataset.arrays(0, 1, 8, 2)["codes"]
    assert got.dtype == kind and np.array_equal(got, values[1:8:2])
    batch = next(Loader(ClipIndex(store.dataset, "train", 4), 2, 0).batches())
    assert batch.codes.video.shape == (2, 4, 4, 3) and batch.codes.video.numpy().dtype == kind
    with np.load(tmp_path / "s" / "000000.npz") as arrays:
        assert arrays["codes"].dtype == kind


def test_double_precision_latents_are_stored_as_single(tmp_path):
    latents = TokenSpec(grids={"video": GridSpec(rows=2, columns=2, latent_width=3)})
    w = writer(tmp_path / "s", tokens=latents, episodes=EPISODES[:1])
    w.write(0, np.full((9, 4, 3), -0.3), {})
    codes = w.finish().dataset.arrays(0, 0, 9)["codes"]
    assert codes.dtype == np.float32 and np.array_equal(codes, np.full((9, 4, 3), -0.3, np.float32))
