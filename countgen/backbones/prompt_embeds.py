"""The text embeddings of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from torch import Tensor


@dataclass(frozen=True)
class PromptEmbeds:
    """The text embeddings of a prompt that condition the denoiser.

    The first dimension of every tensor is the batch, and every tensor may carry gradient.

    Attributes:
        prompt_embeds: (B, L, D).
        pooled_prompt_embeds: (B, P), for models that condition on a pooled vector.
        attention_mask: (B, L), for models that mask padding.
        negative_prompt_embeds, negative_pooled_prompt_embeds, negative_attention_mask: the same for
            the negative prompt, by default the empty one; present if guidance is used.
    """

    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor | None = None
    attention_mask: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    negative_attention_mask: Tensor | None = None

    @property
    def negative(self) -> PromptEmbeds:
        """The embeddings of the negative prompt, as a prompt of their own.

        Raises:
            ValueError: there are none, because the prompt was encoded without guidance.
        """
        if self.negative_prompt_embeds is None:
            raise ValueError("guidance needs the negative prompt's embeddings too: set guidance_scale before encoding")
        return PromptEmbeds(
            self.negative_prompt_embeds, self.negative_pooled_prompt_embeds, self.negative_attention_mask
        )

    def expand(self, batch_size: int) -> PromptEmbeds:
        """Return the same prompt for every latent of a batch, without copying memory."""
        return self.map(lambda tensor: tensor.expand(batch_size, *tensor.shape[1:]))

    def map(self, function: Callable[[Tensor], Tensor]) -> PromptEmbeds:
        """Return the same prompt with a function applied to every tensor."""
        changed = {
            field.name: function(value) for field in fields(self) if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **changed)
