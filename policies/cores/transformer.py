"""Causal Transformer with a sliding window, the attention baseline behind the one contract.

Every frame is a token. In each layer a token attends to itself and the W − 1 before it, not across an episode start.
Positions are times, not counts: queries and keys are turned by an angle proportional to their time (rotary embedding,
Su et al. 2021, at continuous positions), so attention sees the elapsed time between two frames, and nothing else of
their position. The cost a step is constant; of T steps it is linear in T for a fixed W, quadratic for W = T.

The state is the window: for the last W − 1 tokens the keys (not yet turned) and values of all layers, the token's age,
and whether it counts; `[B, (W − 1) · (2 · D · layers + 2)]`. Zeros are an empty window.

    core = Transformer(32, 1, TransformerConfig(window=32))
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.limits import Units, check_parameters


@dataclass(frozen=True, config={"extra": "forbid"})
class TransformerConfig:
    """Size and window."""

    model_size: Units = 32
    """D, numbers of a token."""

    heads: Units = 4
    """Attention heads; D / heads must be even."""

    layers: Annotated[int, Field(ge=1, le=256)] = 2
    """Blocks of attention and feed-forward."""

    feedforward_size: Units = 64
    """Hidden units of the feed-forward part of a block."""

    window: Annotated[int, Field(ge=2, le=100_000)] = 32
    """W, tokens that a token attends to, itself included."""

    def __post_init__(self) -> None:
        """Check that the heads share the token evenly."""
        if self.model_size % (2 * self.heads):
            raise ValueError(f"model_size must be a multiple of 2 · heads = {2 * self.heads}, got {self.model_size}.")


class Transformer(Core):
    """A causal Transformer with a sliding window in continuous time.

    Attributes:
        config: its numbers.
        embed: F features → D.
        blocks: the layers.
        norm: before the read-out.
        readout: D → M motors.
    """

    def __init__(self, input_size: int, output_size: int, config: TransformerConfig | None = None, seed: int = 0):
        """Draw the weights from `seed`.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its numbers; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        config = config or TransformerConfig()
        self.input_size, self.output_size = input_size, output_size
        self.config = config
        size, hidden = config.model_size, config.feedforward_size
        check_parameters("this Transformer", size * (input_size + config.layers * (4 * size + 2 * hidden)))
        self.state_size = (config.window - 1) * (2 * config.model_size * config.layers + 2)
        check_parameters("the window of one sample", self.state_size)
        with seeded(seed):
            self.embed = nn.Linear(input_size, config.model_size)
            self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
            self.norm = nn.LayerNorm(config.model_size)
            self.readout = readout(config.model_size, output_size)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run all tokens at once; see `Core.forward`."""
        with full_precision(inputs):
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            config, context = self.config, self.config.window - 1
            past = state.unflatten(1, (context, -1))  # [B, W − 1, 2·D·layers + 2]
            memories = past[..., :-2].split(2 * config.model_size, dim=2)
            age, counts = past[..., -2], past[..., -1] > 0.5
            # Time 0 is that of the last token in the window. Doubles, so that long sequences keep their fractions.
            times = torch.cat((-age.double(), elapsed.double().cumsum(dim=1)), dim=1)  # [B, W − 1 + T]
            # A token sees those of its own episode: 0 is the one under way, −1 marks places that are empty.
            episode = torch.cat((counts.long() - 1, starts.long().cumsum(dim=1)), dim=1)
            turns = rotations(times, config, state.dtype)
            tokens, remembered = self.embed(inputs), []
            for block, memory in zip(self.blocks, memories, strict=True):
                tokens, keys_values = block(tokens, memory, turns, episode)
                remembered.append(keys_values[:, -context:])
            counts = episode[:, -context:] == episode[:, -1:]
            age = (times[:, -1:] - times[:, -context:]).to(state.dtype)
            window = torch.cat((*remembered, age.unsqueeze(2), torch.ones_like(age).unsqueeze(2)), dim=2)
            state = torch.where(counts.unsqueeze(2), window, 0).flatten(1)
            return self.readout(self.norm(tokens)), state

    def cost_per_step(self) -> CoreCost:
        """Count weights as synapses; multiply-adds include those of a full window of attention."""
        config = self.config
        weights = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        attention = config.layers * 2 * config.window * config.model_size
        return measure_cost(self, weights - self.readout.weight.numel(), weights + attention)


class _Block(nn.Module):
    """Attention and feed-forward, each on the normalised token and added to it."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        size = config.model_size
        self.config = config
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.key_value = nn.Linear(size, size), nn.Linear(size, 2 * size)
        self.project = nn.Linear(size, size)
        self.widen, self.narrow = nn.Linear(size, config.feedforward_size), nn.Linear(config.feedforward_size, size)

    def forward(
        self, tokens: Tensor, memory: Tensor, turns: tuple[Tensor, Tensor], episode: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens `[B, T, D]` and the keys and values `[B, W − 1 + T, 2D]` of window and tokens."""
        steps, heads = tokens.shape[1], self.config.heads
        normed = self.attention_norm(tokens)
        keys_values = torch.cat((memory, self.key_value(normed)), dim=1)
        keys, values = (part.unflatten(2, (heads, -1)) for part in keys_values.chunk(2, dim=2))
        queries = self.query(normed).unflatten(2, (heads, -1))  # [B, T, heads, D / heads]
        cos, sin = turns
        queries = turn(queries, cos[:, -steps:], sin[:, -steps:])
        heard = attend_in_window(queries, turn(keys, cos, sin), values, episode)
        tokens = tokens + self.project(heard.flatten(2))
        hidden = functional.gelu(self.widen(self.feedforward_norm(tokens)))
        return tokens + self.narrow(hidden), keys_values


def rotations(times: Tensor, config: TransformerConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, `[B, K, 1, D / (2 · heads)]`, of the angles at the given times `[B, K]`.

    The slowest pair turns by one radian in four windows, the fastest in one frame period.
    """
    pairs = config.model_size // config.heads // 2
    exponents = torch.arange(pairs, dtype=times.dtype, device=times.device) / max(pairs - 1, 1)
    angles = times[:, :, None, None] * (4 * config.window) ** -exponents
    return angles.cos().to(dtype), angles.sin().to(dtype)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of numbers, the first half of the last dimension with the second half."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def attend_in_window(queries: Tensor, keys: Tensor, values: Tensor, episode: Tensor) -> Tensor:
    """Let every query attend to its own token and the W − 1 before it, within its episode.

    Blocks of queries meet the keys from W − 1 tokens before the block to its end, so the cost is linear in T.

    Args:
        queries: `[B, T, heads, d]`.
        keys: `[B, W − 1 + T, heads, d]`.
        values: as `keys`.
        episode: `[B, W − 1 + T]` int64; only equal ones see each other.

    Returns:
        `[B, T, heads, d]`.
    """
    batch_size, steps = queries.shape[:2]
    context = keys.shape[1] - steps
    block = min(steps, max(context + 1, 16))
    blocks = -(-steps // block)
    padding = blocks * block - steps
    queries, keys, values = (functional.pad(x, (0, 0, 0, 0, 0, padding)) for x in (queries, keys, values))
    episode = functional.pad(episode, (0, padding))
    span = block + context
    # [B, blocks, heads, d, span] → [B · blocks, heads, span, d]
    keys, values = (x.unfold(1, span, block).flatten(0, 1).transpose(2, 3) for x in (keys, values))
    queries = queries.unflatten(1, (blocks, block)).flatten(0, 1).transpose(1, 2)  # [B · blocks, heads, block, d]
    heard_episode = episode.unfold(1, span, block).flatten(0, 1)  # [B · blocks, span]
    own_episode = heard_episode[:, context:]
    lag = torch.arange(block, device=keys.device)[:, None] + context - torch.arange(span, device=keys.device)
    sees = (lag >= 0) & (lag <= context) & (own_episode[:, :, None] == heard_episode[:, None, :])
    heard = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=sees[:, None])
    return heard.transpose(1, 2).reshape(batch_size, blocks * block, *heard.shape[1::2])[:, :steps]
