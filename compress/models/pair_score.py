"""A network that scores pairs of texts, of an encoder that embeds one."""

from __future__ import annotations

from torch import Tensor, nn


class PairScore(nn.Module):
    """The cosine of two texts' mean token embeddings, (n,): a bi-encoder, as sentence-transformers scores pairs."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, second_input_ids: Tensor, second_attention_mask: Tensor
    ) -> Tensor:
        """Token ids and masks (n, length) of the first and of the second text."""
        pairs = ((input_ids, attention_mask), (second_input_ids, second_attention_mask))
        first, second = (self._embedded(ids, mask) for ids, mask in pairs)
        return nn.functional.cosine_similarity(first, second)

    def _embedded(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
