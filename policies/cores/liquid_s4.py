"""Liquid-S4 (Hasani et al. 2022): state spaces with a long memory, and a term for products of neighbouring inputs.

A linear liquid time-constant circuit, dx/dt = (A + B u) x + B u, unrolls into a convolution of the inputs and one of
their products. Its PolyB form keeps of the products those of consecutive inputs, and of their kernel C B̄^p alone:

    y_t = Σ_j C Ā^j B̄ u_{t−j} + D u_t + Σ_{p=2..degree} C B̄^p · u_t u_{t−1} … u_{t−p+1}

A is diagonal and begins as that of HiPPO-LegS (`policies.cores.hippo`; S4D, Gu et al. 2022), every channel with a step
δ of its own. Over a frame of elapsed time Δ it is held constant: Ā = exp(δ Δ A), B̄ = (Ā − 1) A⁻¹ B. However long the
gap, |Ā| < 1 and |B̄| ≤ 2 |B / A|. (The paper holds by the bilinear rule, with which a long gap gives Ā = −1 and the
states ring on; its code takes B̄ for products from the nominal step, here it is that of the frame.)

One block: u = norm(h), y of each channel as above, h ← h + glu(W gelu(y)). The state packs for every block the x of all
channels, `[H · P · 2]` real and imaginary parts, and the last degree − 1 inputs, `[(degree − 1) · H]`.

Two forms give the same outputs. *Convolution*, for frames that are on time: the kernel is a product of two tables of
powers, √T long each, in double precision. *Scan*, for any elapsed times: x_t = Ā_t x_{t−1} + B̄_t u_t, a step at a time
when it drives. `starts` cut the convolution into stretches, and zero the scan.

    core = LiquidS4(32, 1, LiquidS4Config(degree=3))
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from policies.cores.core import Core, CoreCost, enter, full_precision, measure_cost, readout, seeded
from policies.cores.hippo import legs
from policies.cores.segments import Stretches, cut_at_starts
from policies.kernels.choose import check_kernel, is_exporting
from policies.kernels.scan.reference import complex_product
from policies.kernels.scan.sequence import SCAN, scan
from policies.limits import Positive, Units, check_parameters

DIRECT_STEPS = 128
"""Longest sequence that is convolved as a matrix product; longer ones by fast Fourier transforms."""

PADDING = 2.0
"""Most places, per step of the batch, that the stretches between starts may take when each is padded to the longest;
where they would take more, the scan is cheaper."""


@dataclass(frozen=True, config={"extra": "forbid"})
class LiquidS4Config:
    """Sizes, degree of the liquid term, range of the memories."""

    model_size: Units = 32
    """H, channels."""

    states: Annotated[int, Field(ge=2, le=1024, multiple_of=2)] = 32
    """States of a channel, in P = states / 2 conjugate pairs."""

    layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Blocks."""

    degree: Annotated[int, Field(ge=1, le=4)] = 2
    """Most inputs in a product: 2 or 3 as published; 1 leaves the liquid term out, which is S4D."""

    shortest_step: Positive = 0.001
    """Least initial step δ of a channel, in states' time per frame period: its memory is some 2 / δ frames long."""

    longest_step: Positive = 0.1
    """Greatest initial step δ; the channels' are drawn between the two, evenly in the logarithm."""

    form: Literal["auto", "convolution", "scan"] = "auto"
    """"convolution" (frames on time only), "scan", or "auto": convolution where all frames are on time."""

    kernel: str = "auto"
    """What runs a scan: "auto", "reference", "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        """Check the order of the steps and the name of the kernel."""
        if self.shortest_step > self.longest_step:
            raise ValueError(
                f"shortest_step must be at most longest_step, got {self.shortest_step} and {self.longest_step}."
            )
        check_kernel(SCAN, self.kernel)


class LiquidS4(Core):
    """State spaces with a long memory and a liquid term.

    Attributes:
        config: its numbers.
        embed: F features → H.
        blocks: the layers.
        norm: before the read-out.
        readout: H → M motors.
    """

    def __init__(self, input_size: int, output_size: int, config: LiquidS4Config | None = None, seed: int = 0):
        """Draw the weights from `seed`; A and B begin as HiPPO-LegS has them.

        Args:
            input_size: F, features a step.
            output_size: M, motor outputs a step.
            config: its numbers; the defaults when None.
            seed: of the initial weights; torch's global generators are left alone.
        """
        super().__init__()
        config = config or LiquidS4Config()
        size, per_layer = config.model_size, config.model_size * (config.states + config.degree - 1)
        check_parameters("this Liquid-S4", size * (input_size + config.layers * (2 * size + 3 * config.states)))
        self.input_size, self.output_size, self.state_size = input_size, output_size, config.layers * per_layer
        self.config = config
        with seeded(seed):
            self.embed = nn.Linear(input_size, size)
            self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
            self.norm = nn.LayerNorm(size)
            self.readout = readout(size, output_size)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, elapsed: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the blocks, each over the whole sequence; see `Core.forward`.

        Raises:
            ValueError: also if the convolution was asked for and a frame is not on time.
        """
        with full_precision(inputs):
            cut = starts is not None
            on_time = elapsed is None
            inputs, state, elapsed, starts = enter(self, inputs, state, elapsed, starts)
            stretches = None
            form = self._choose_form(elapsed, on_time)
            if form == "convolution" and cut and bool(starts[:, 1:].any()):
                stretches = cut_at_starts(starts)
                if self.config.form == "auto" and stretches.valid.numel() > PADDING * starts.numel():
                    form = "scan"
            h, after = self.embed(inputs), []
            for block, before in zip(self.blocks, state.chunk(self.config.layers, dim=1), strict=True):
                assert isinstance(block, _Block)
                if form == "convolution":
                    h, left = block.convolve(h, before, starts, stretches)
                else:
                    h, left = block.scan(h, before, elapsed, starts, self.config.kernel)
                after.append(left)
            return self.readout(self.norm(h)), torch.cat(after, dim=1)

    def cost_per_step(self) -> CoreCost:
        """Count weights as synapses, and the multiply-adds of a step of the scan, 4 for a complex product."""
        linear = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        pairs = self.config.layers * self.config.model_size * self.config.states // 2
        return measure_cost(
            self, linear - self.readout.weight.numel() + 2 * pairs, linear + 4 * pairs * (3 + self.config.degree)
        )

    def _choose_form(self, elapsed: Tensor, on_time: bool) -> str:
        """Return "convolution" or "scan"."""
        wanted = self.config.form
        if wanted == "scan" or torch.compiler.is_compiling() or is_exporting():
            return "scan"
        if not on_time and not bool((elapsed == 1).all()):
            if wanted == "convolution":
                raise ValueError(
                    "form='convolution' needs frames that are on time, elapsed 1 everywhere; leave form at 'auto' for "
                    "others."
                )
            return "scan"
        return "scan" if wanted == "auto" and elapsed.shape[1] == 1 else "convolution"


class _Block(nn.Module):
    """State spaces of all channels between a norm and a gated mix of the channels.

    Attributes:
        log_step: `[H]` log δ.
        log_decay: `[H, P]` log of −Re A, so that A stays in the left half plane.
        frequency: `[H, P]` Im A.
        b: `[H, P, 2]`.
        c: `[H, P, 2]`.
        skip: `[H]` D.
        mix: H → 2 H, the second half gates the first.
    """

    def __init__(self, config: LiquidS4Config):
        super().__init__()
        size, pairs = config.model_size, config.states // 2
        self.degree, self.size, self.pairs = config.degree, size, pairs
        values, drive = legs(pairs)
        steps = torch.rand(size) * math.log(config.longest_step / config.shortest_step) + math.log(config.shortest_step)
        self.norm = nn.LayerNorm(size)
        self.log_step = nn.Parameter(steps)
        self.log_decay = nn.Parameter(torch.full((size, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(torch.from_numpy(values.imag).float().repeat(size, 1))
        self.b = nn.Parameter(torch.view_as_real(torch.from_numpy(drive).to(torch.complex64)).repeat(size, 1, 1))
        self.c = nn.Parameter(torch.randn(size, pairs, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(size))
        self.mix = nn.Linear(size, 2 * size)

    def scan(self, h: Tensor, state: Tensor, elapsed: Tensor, starts: Tensor, kernel: str) -> tuple[Tensor, Tensor]:
        """Run step after step; `[B, T, H]` and the packed state `[B, …]` in and out."""
        u = self.norm(h)
        x, past = self._unpack(state)
        a, b = self._hold(elapsed)  # [B, T, H, P, 2]
        drive = b * u[..., None, None]
        steps = u.shape[1]
        states = scan(
            a.flatten(2, 3), drive.flatten(2, 3), x.flatten(1, 2), starts, "reference" if steps == 1 else kernel
        ).unflatten(2, (self.size, self.pairs))
        y = _twice_real(self.c, states).sum(dim=-1)
        products, past = self._products(u, past, starts)
        power = b
        for product in products:
            power = complex_product(power, b)
            y = y + _twice_real(self.c, power).sum(dim=-1) * product
        return self._leave(h, u, y), self._pack(states[:, -1], past)

    def convolve(self, h: Tensor, state: Tensor, starts: Tensor, stretches: Stretches | None) -> tuple[Tensor, Tensor]:
        """Run all steps at once, on time; arguments as `scan`.

        Args:
            h: `[B, T, H]`.
            state: packed, `[B, …]`.
            starts: `[B, T]`.
            stretches: where the starts cut the sequences; None when they do so at the first step at most.
        """
        u = self.norm(h)
        x, past = self._unpack(state)
        x = torch.where(starts[:, :1, None, None], 0, x)
        a, b = (pair[0, 0] for pair in self._hold(self.log_step.new_ones(1, 1)))  # [H, P, 2]
        products, past = self._products(u, past, starts)
        y, x = _convolve(a, b, self.c, u, x, stretches)
        power = b
        for product in products:
            power = complex_product(power, b)
            y = y + _twice_real(self.c, power).sum(dim=-1) * product
        return self._leave(h, u, y), self._pack(x, past)

    def _hold(self, elapsed: Tensor) -> tuple[Tensor, Tensor]:
        """Return Ā and B̄, `[B, T, H, P, 2]`, of steps `[B, T]` over which the input is held."""
        time = (elapsed[..., None] * self.log_step.exp())[..., None]  # [B, T, H, 1]
        decay = self.log_decay.exp()
        shrink, turn = decay * time, self.frequency * time
        size, cos, sin = torch.exp(-shrink), torch.cos(turn), torch.sin(turn)
        # exp(−s) − 1 = −2 t / (1 + t) with t = tanh(s / 2): no digits are lost where s is small.
        less = torch.tanh(0.5 * shrink)
        gone = torch.stack((-2 * less / (1 + less) * cos - 2 * torch.sin(0.5 * turn).square(), size * sin), dim=-1)
        square = decay.square() + self.frequency.square()
        b_over_a = complex_product(self.b, torch.stack((-decay, -self.frequency), dim=-1) / square[..., None])
        return torch.stack((size * cos, size * sin), dim=-1), complex_product(gone, b_over_a.expand_as(gone))

    def _products(self, u: Tensor, past: Tensor, starts: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return `[B, T, H]` products of 2, 3, … consecutive inputs, and the inputs `[B, degree − 1, H]` to keep.

        An input from before a start counts as 0.
        """
        lags, steps = self.degree - 1, u.shape[1]
        known = torch.cat((past, u), dim=1)
        began = functional.pad(starts, (lags, 0))  # False before the first step
        products, product, same = [], u, torch.ones_like(starts)
        for lag in range(1, lags + 1):
            same = same & ~began[:, lags - lag + 1 : lags - lag + 1 + steps]
            before = known[:, lags - lag : lags - lag + steps]
            product = product * torch.where(same[..., None], before, 0)
            products.append(product)
        if not lags:
            return [], past
        # The input that is `lag` steps old at the next step is kept unless an episode started after it.
        kept = known[:, -lags:]
        later = began[:, -lags:].flip(1).long().cumsum(1).flip(1)  # starts at or after each of the places
        after = functional.pad(later[:, 1:], (0, 1))
        return products, torch.where((after == 0)[..., None], kept, 0)

    def _leave(self, h: Tensor, u: Tensor, y: Tensor) -> Tensor:
        return h + functional.glu(self.mix(functional.gelu(y + self.skip * u)), dim=-1)

    def _unpack(self, state: Tensor) -> tuple[Tensor, Tensor]:
        numbers = self.size * self.pairs * 2
        x, past = state.split((numbers, state.shape[1] - numbers), dim=1)
        return x.unflatten(1, (self.size, self.pairs, 2)), past.unflatten(1, (self.degree - 1, self.size))

    def _pack(self, x: Tensor, past: Tensor) -> Tensor:
        return torch.cat((x.flatten(1), past.flatten(1)), dim=1)


def _twice_real(x: Tensor, y: Tensor) -> Tensor:
    """Return 2 Re(x y) of pairs: what a number and its conjugate give together."""
    return 2 * (x[..., 0] * y[..., 0] - x[..., 1] * y[..., 1])


def _convolve(
    a: Tensor, b: Tensor, c: Tensor, u: Tensor, x: Tensor, stretches: Stretches | None
) -> tuple[Tensor, Tensor]:
    """Return 2 Re Σ_j C Ā^j B̄ u_{t−j} with what is left of x, `[B, T, H]`, and the last x `[B, H, P, 2]`.

    Args:
        a: Ā `[H, P, 2]`.
        b: B̄ `[H, P, 2]`.
        c: `[H, P, 2]`.
        u: `[B, T, H]`.
        x: `[B, H, P, 2]` before the first step.
        stretches: pieces of the sequences that do not hear each other; None when each is one piece.
    """
    dtype, steps = u.dtype, u.shape[1]
    rows = u.double() if stretches is None else stretches.lay_out(u.double())  # [G, L, H]
    length = rows.shape[1]
    ab, bb, cb = (torch.view_as_complex(pair.double().contiguous()) for pair in (a, b, c))
    log_a = _logarithm(ab)
    # Ā^(c·w + i) = Ā^(c·w) Ā^i: two tables instead of T powers.
    width = 1 << math.ceil(0.5 * math.log2(max(length, 1)))
    blocks = -(-length // width)
    fine = torch.exp(log_a[..., None] * torch.arange(width, device=u.device))  # [H, P, width]
    coarse = torch.exp(log_a[..., None] * (width * torch.arange(blocks, device=u.device)))  # [H, P, blocks]
    kernel = 2 * (((cb * bb)[..., None] * coarse).transpose(1, 2) @ fine).real.flatten(1)[:, :length]  # [H, L]
    y = _causal(kernel, rows)
    x = torch.view_as_complex(x.double().contiguous())
    # Channels first: one product a channel, of all samples and blocks with the fine table.
    lasting = (cb * ab * x).transpose(0, 1)[:, :, None] * coarse.transpose(1, 2)[:, None]  # [H, B, blocks, P]
    echo = 2 * (lasting.flatten(1, 2) @ fine).real.unflatten(1, (len(u), blocks)).flatten(2)[..., :length]  # [H, B, L]
    echo = echo.permute(1, 2, 0)
    if stretches is None:
        y = y + echo
        last, lengths, entry = rows, torch.full((len(u),), steps, device=u.device), x
    else:
        y = y.index_add(0, stretches.first, echo)
        y = stretches.take_back(y)
        last, lengths = rows[stretches.last], stretches.lengths[stretches.last]
        entry = torch.where((stretches.first == stretches.last)[:, None, None], x, 0)
    # The last x: the inputs of the last stretch, from the newest to the oldest, against the powers.
    ages = torch.arange(width * blocks, device=u.device)
    place = (lengths[:, None] - 1 - ages).clamp_min(0)
    newest = torch.gather(last, 1, place[..., None].expand(-1, -1, last.shape[2]).clamp_max(length - 1))
    newest = torch.where((ages < lengths[:, None])[..., None], newest, 0).permute(2, 0, 1)  # [H, B, blocks · width]
    sums = newest.reshape(len(fine), len(u) * blocks, width).to(fine.dtype) @ fine.transpose(1, 2)  # [H, B · blocks, P]
    heard = (sums.unflatten(1, (len(u), blocks)) * coarse.transpose(1, 2)[:, None]).sum(dim=2).transpose(0, 1) * bb
    left = heard + torch.exp(log_a * lengths[:, None, None]) * entry
    return y.to(dtype), torch.view_as_real(left).to(dtype)


def _logarithm(a: Tensor) -> Tensor:
    """Return log a `[H, P]` complex; of a number that has vanished, that of one too small to matter."""
    size = a.real.square() + a.imag.square()
    gone = size < 1e-60
    real, imaginary = torch.where(gone, 1e-30, a.real), torch.where(gone, 0, a.imag)
    return torch.complex(0.5 * torch.log(real.square() + imaginary.square()), torch.atan2(imaginary, real))


def _causal(kernel: Tensor, u: Tensor) -> Tensor:
    """Convolve `[G, T, H]` inputs with a `[H, T]` kernel that reaches back in time only."""
    steps = u.shape[1]
    if steps <= DIRECT_STEPS:
        lag = torch.arange(steps, device=u.device)[:, None] - torch.arange(steps, device=u.device)
        matrix = torch.where(lag >= 0, kernel[:, lag.clamp_min(0)], 0)  # [H, T, T]
        return torch.einsum("hts,gsh->gth", matrix, u)
    spectrum = torch.fft.rfft(kernel.T, n=2 * steps, dim=0) * torch.fft.rfft(u, n=2 * steps, dim=1)
    return torch.fft.irfft(spectrum, n=2 * steps, dim=1)[:, :steps]
