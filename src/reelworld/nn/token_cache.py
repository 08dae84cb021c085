"""Keys and values of the tokens so far: a step reads what it may see and nothing else.

Shapes: B batch (streams), H heads, L tokens of a whole sequence, K visible keys, D width of a head
"""

from __future__ import annotations

from torch import Tensor

from reelworld.nn.attention import BlockMask, CausalMask, Mask

__all__ = ["BlockTokenCache", "TokenCache"]


class TokenCache:
    """Keys and values of one attention layer, (B, H, L, D) each, allocated once and written in place."""

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor) -> None:
        """Make room.

        Args:
            shape: (B, H, L, D).
            like: Gives type and device.
        """
        self.keys, self.values = like.new_empty(shape), like.new_empty(shape)
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Mask | None]:
        """Append the keys and values (B, H, T, D) of T tokens; return all that they may see, and their mask."""
        first = self.length
        self.length += keys.shape[2]
        self.keys[:, :, first : self.length] = keys
        self.values[:, :, first : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length], CausalMask(first=first)

    def select(self, streams: Tensor) -> TokenCache:
        """Copy the given streams."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.keys, copy.values = self.keys[streams], self.values[streams]
        return copy


class BlockTokenCache(TokenCache):
    """The same for block-sparse attention."""

    def __init__(self, shape: tuple[int, int, int, int], like: Tensor, layout: Tensor, block: int) -> None:
        """Make room; ``layout`` bool (S, S) says which blocks of ``block`` tokens see each other."""
        super().__init__(shape, like)
        self.layout, self.block = layout, block

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Mask | None]:
        """Append and return as ``TokenCache.extend``."""
        first = self.length
        k, v, _ = super().extend(keys, values)
        return k, v, BlockMask(layout=self.layout, block=self.block, first=first)
