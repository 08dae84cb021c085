"""Token layout: against a plain list, and round trips."""

from __future__ import annotations

import torch

from reelworld.systems.ivideogpt.token_layout import TokenLayout
from reelworld.types import Codes, GridSpec

LAYOUT = TokenLayout.of(
    GridSpec(rows=2, columns=2, codebook_size=10), GridSpec(rows=1, columns=2, codebook_size=5), context_frames=2
)


def codes(n: int = 3, frames: int = 5) -> Codes:
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(0, 10, (n, frames, 4), generator=generator)
    video = torch.randint(0, 5, (n, frames, 2), generator=generator)
    context[:, 2:], video[:, :2] = 0, 0
    return Codes({"context": context, "video": video})


def test_tokens_lie_as_in_a_plain_list() -> None:
    given, ids = codes(), LAYOUT.pack(codes())
    for row in range(3):
        plain: list[int] = []
        for t in range(2):
            plain += [15] * (t > 0) + given.grids["context"][row, t].tolist()
        for t in range(2, 5):
            plain += [16, *(c + 10 for c in given.video[row, t].tolist())]
        assert ids[row].tolist() == plain
        assert LAYOUT.length(5) == len(plain)
    assert (LAYOUT.vocabulary, LAYOUT.prelude, LAYOUT.stride) == (17, 9, 3)
    assert ids[0, LAYOUT.prelude] == LAYOUT.frame_slot


def test_there_and_back() -> None:
    again = LAYOUT.unpack(LAYOUT.pack(codes()))
    assert all(torch.equal(again.grids[name], grid) for name, grid in codes().grids.items())
    only = LAYOUT.unpack(LAYOUT.pack(codes(frames=2)))
    assert only.video.shape == (3, 2, 2)


def test_ids_of_another_grid_become_the_nearest_code() -> None:
    ids = LAYOUT.pack(codes())
    ids[0, 0], ids[0, LAYOUT.prelude + 1], ids[0, LAYOUT.prelude + 2] = 16, 3, 15
    again = LAYOUT.unpack(ids)
    assert again.grids["context"][0, 0, 0] == 9
    assert again.video[0, 2].tolist() == [0, 4]


def test_labels_hide_the_context_and_the_first_slot() -> None:
    ids = LAYOUT.pack(codes())
    labels = LAYOUT.labels(ids)
    assert (labels[:, :10] == -100).all()
    assert torch.equal(labels[:, 10:], ids[:, 10:])


def test_frames_that_have_room() -> None:
    assert [LAYOUT.frames(n) for n in (8, 9, 11, 12, 14, 15)] == [0, 2, 2, 3, 3, 4]
    assert all(LAYOUT.frames(LAYOUT.length(n)) == n for n in range(2, 9))


def test_the_published_sizes() -> None:
    """Lengths that the specification lists."""
    context, frame = (GridSpec(rows=n, columns=n, codebook_size=8192) for n in (16, 4))
    lengths = [TokenLayout.of(context, frame, k).length(t) for k, t in ((2, 16), (1, 16), (2, 12))]
    assert lengths == [751, 511, 683]
    assert TokenLayout.of(context, frame, 2).vocabulary == 16386
