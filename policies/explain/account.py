"""Why did it steer so? The account of one decision: where the change came from, layer by layer, back in time.

    account = explain_decision(policy, frames, state, reference="held")
    account.change              # steering, less what the reference would have made it steer
    account.regions             # [K, R, C] shares of the picture's regions at each of the last K frames; they sum to it
    account.features            # [K, F] shares of the features; they sum to it as well
    account.layers["command"]   # LTC circuits: [K, synapses] shares of the synapses that lead out of that layer

The reference is stated: the same K frames with the oldest picture held still ("held": what if nothing had moved), or
pictures without contrast ("blank": what if nothing had been seen). Both begin from the same state, so what the circuit
remembers from before is no part of the change.

Every share is a path integral. On a path from the reference (a = 0) to what was seen (a = 1), any quantity z that the
steering y depends on contributes

    share(z) = ∫ ∂y/∂z · dz/da da

and by the chain rule the shares of everything that separates the pictures from the steering sum to y(1) − y(0):
integrated gradients (Sundararajan et al. 2017) for the features, conductance (Dhamdhere et al. 2018) for synapses. The
path is straight in the whitened pictures at `points` + 1 places and straight between these in the features, where
trapezoids over `FINE` steps each integrate the circuit, refined until the sums agree. From a feature on to the pixels
no gradient is needed: between two places the conv head is linear but for its ReLUs, and with their secants as slopes
(the rescale rule of Shrikumar et al. 2017, DeepLIFT, interval by interval) the pixels' shares sum to the features' to
rounding.

What is exact and what is not: the sums, to the error of the trapezoids, for every core. That a single share is the
effect of taking that part away: only roughly, since parts act together (`experiments.explain.ablation` measures how
well it predicts; `predicted_removal` and `predicted_cut` are made for that question).
Layers of neurons: for LTCs under the fused solver in a wiring of inter, command and motor
neurons, where all that is seen passes each layer. For other cores the account ends at the features. `synaptic_change`
is exact to rounding: it splits the change of a motor neuron's voltage between two frames into the charge that came
through each synapse.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policies.cores import LTC
from policies.kernels.ltc.reference import EPSILON
from policies.perception import whiten
from policies.policy import DrivingPolicy

REFERENCES = ("held", "blank")
FINE = (16, 64, 256)
"""Steps of the integral through the circuit, for each interval of the path through the conv head: more where
fewer leave a gap above `CLOSE`."""
CLOSE = 0.003
"""Part of the change that the shares' sum may miss before finer steps are taken."""


@dataclass(frozen=True)
class Account:
    """Where a change in steering came from.

    Attributes:
        steering: y at the last frame, before the clamp to full lock.
        reference_steering: y of the reference.
        regions: `[K, R, C]` share of each region of the picture at each frame, oldest first.
        features: `[K, F]` share of each feature of the head at each frame.
        effects: `[R, C]` to first order, what the steering would lose if the region alone were that of the reference:
            the slopes next to what was seen instead of their mean over the path. These sum to nothing in particular.
        layers: for LTC circuits in layers: by the name of the layer that the synapses start from ("sensory", "inter",
            "command"), the share of each synapse at each frame, `[K, S]`; empty otherwise.
        synapses: for each of `layers`, which synapses these are: numbers in the wiring's `sensory` or `recurrent`.
    """

    steering: float
    reference_steering: float
    regions: Tensor
    features: Tensor
    effects: Tensor
    layers: dict[str, Tensor] = field(default_factory=dict)
    synapses: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def change(self) -> float:
        """Steering less that of the reference: what is accounted for."""
        return self.steering - self.reference_steering

    @property
    def gap(self) -> float:
        """Largest difference between the change and the sum of a layer's shares, as a part of the change."""
        sums = [self.regions.sum(), self.features.sum(), *(shares.sum() for shares in self.layers.values())]
        return max(abs(float(total) - self.change) for total in sums) / max(abs(self.change), 1e-3)


def explain_decision(
    policy: DrivingPolicy,
    frames: Tensor,
    state: Tensor,
    elapsed: Tensor | None = None,
    reference: str = "held",
    grid: tuple[int, int] = (4, 8),
    points: int = 4,
) -> Account:
    """Account for the steering at the last of K frames.

    Args:
        policy: the driver.
        frames: uint8 `[K, H, W, 3]` as the camera gave them, the last one just seen.
        state: `[1, S]` before the first of them.
        elapsed: `[K]` in frame periods; ones when None.
        reference: "held" or "blank"; see the module.
        grid: R rows and C columns of regions.
        points: intervals of the path through the conv head.

    Raises:
        ValueError: if the reference is unknown, or there is only one frame to hold.
    """
    seen = _whitened(policy, frames)  # [K, 3, h, w]
    start = reference_frames(seen, reference)
    along = torch.linspace(0, 1, points + 1)
    pictures = start + along[:, None, None, None, None] * (seen - start)  # [P + 1, K, 3, h, w]
    with torch.no_grad():
        features, slopes = _head(policy, pictures)  # [P + 1, K, F]
    times = torch.ones(len(frames)) if elapsed is None else elapsed
    for steps in FINE:
        path, motors, mean = _integrate(policy.core, features, steps, state, times)
        layers, synapses = _layer_shares(policy.core, path)
        change = float(motors[-1] - motors[0])
        sums = [float(shares.sum()) for shares in (path.shares["features"], *layers.values())]
        if all(abs(total - change) <= CLOSE * max(abs(change), 1e-3) for total in sums):
            break
    shares = _to_pixels(policy, mean, slopes) * (seen - start) / points  # [P, K, 3, h, w]
    rows, columns = grid
    return Account(
        steering=float(motors[-1].detach()),
        reference_steering=float(motors[0].detach()),
        regions=_sum_regions(shares.sum((0, 2)), rows, columns),
        features=path.shares["features"],
        effects=_sum_regions(points * shares[-1].sum(1), rows, columns).sum(0),
        layers=layers,
        synapses=synapses,
    )


def reference_frames(seen: Tensor, reference: str) -> Tensor:
    """Return the reference `[K, 3, h, w]` of whitened pictures.

    Raises:
        ValueError: if the reference is unknown, or there is only one frame to hold.
    """
    if reference not in REFERENCES:
        raise ValueError(f"reference must be one of {', '.join(REFERENCES)}, got {reference!r}.")
    if reference == "blank":
        return torch.zeros_like(seen)
    if len(seen) < 2:
        raise ValueError("the reference 'held' needs at least two frames: the first one is held. Give more frames.")
    return seen[:1].expand_as(seen)


def region_masks(height: int, width: int, grid: tuple[int, int]) -> Tensor:
    """Return bool `[R·C, h, w]`: which pixels each region has, row by row."""
    rows = torch.arange(height) * grid[0] // height
    columns = torch.arange(width) * grid[1] // width
    number = rows[:, None] * grid[1] + columns[None, :]
    return number[None] == torch.arange(grid[0] * grid[1])[:, None, None]


def measured_change(
    policy: DrivingPolicy,
    frames: Tensor,
    state: Tensor,
    masks: Tensor,
    elapsed: Tensor | None = None,
    reference: str = "held",
) -> Tensor:
    """Take regions away for the last K frames, each for itself, and see what the steering does.

    Args:
        policy: the driver.
        frames: as in `explain_decision`.
        state: as in `explain_decision`.
        masks: bool `[M, h, w]`, the pixels that become those of the reference, in the whitened pictures.
        elapsed: as in `explain_decision`.
        reference: as in `explain_decision`.

    Returns:
        `[M]` steering as it was, less the steering without the region.
    """
    with torch.no_grad():
        seen = _whitened(policy, frames)
        start = reference_frames(seen, reference)
        pictures = torch.where(masks[:, None, None], start, seen)  # [M, K, 3, h, w]
        features, _ = _head(policy, torch.cat((seen[None], pictures)))
        times = torch.ones(len(frames)) if elapsed is None else elapsed
        motors = _run(policy.core, features, state, times, None)
        return motors[0] - motors[1:]


def predicted_removal(
    policy: DrivingPolicy,
    frames: Tensor,
    state: Tensor,
    masks: Tensor,
    elapsed: Tensor | None = None,
    reference: str = "held",
) -> Tensor:
    """Predict what taking regions away for the last K frames, each for itself, would take from the steering.

    The conv head is run without the region, exactly; the circuit is taken as linear around what was seen: the change of
    the features times ∂y/∂f. Unlike shares, these sum to nothing in particular.

    Arguments and result as in `measured_change`.
    """
    with torch.no_grad():
        seen = _whitened(policy, frames)
        pictures = torch.where(masks[:, None, None], reference_frames(seen, reference), seen)  # [M, K, 3, h, w]
        features, _ = _head(policy, torch.cat((seen[None], pictures)))
    times = torch.ones(len(frames)) if elapsed is None else elapsed
    with torch.enable_grad():
        here = features[:1].detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(_run(policy.core, here, state, times, None).sum(), here)
    return ((features[:1] - features[1:]) * slope).sum((1, 2))


def synaptic_change(core: LTC, inputs: Tensor, voltages: Tensor, elapsed: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Split the change of every voltage over one frame into the charge through each synapse; exact to rounding.

    The fused step is implicit in its target: c (v' − v) = gleak (vleak − v') + Σ a (erev − v'), so over the substeps
    v' − v is the sum of these currents over c.

    Args:
        core: an LTC under the fused solver.
        inputs: `[F]` features of the frame.
        voltages: `[N]` before it.
        elapsed: time since the frame before, frame periods.

    Returns:
        `[N]` change through the leak, `[S_in]` through each sensory synapse of its target's voltage, `[S_rec]` through
        each recurrent one: together, target by target, they are the change of the voltage.

    Raises:
        ValueError: if the solver is another one.
    """
    if core.config.solver != "fused":
        raise ValueError(f"the split is exact for solver='fused', got {core.config.solver!r}.")
    with torch.no_grad():
        circuit = core.circuit()
        mapped = _map_inputs(core, inputs)
        sensory_a = _open(circuit.sensory_w, circuit.sensory_sigma, circuit.sensory_mu, mapped[circuit.sensory_source])
        drive = circuit.sensory_drive(mapped)
        c = circuit.cm / (elapsed / core.config.substeps)
        leak, sensory, recurrent = torch.zeros_like(voltages), torch.zeros_like(sensory_a), torch.zeros_like(circuit.w)
        for _ in range(core.config.substeps):
            a = _open(circuit.w, circuit.sigma, circuit.mu, voltages[circuit.source])
            numerator, denominator = circuit.recurrent_drive(voltages)
            numerator = c * voltages + circuit.gleak * circuit.vleak + numerator + drive[0]
            voltages = numerator / (c + circuit.gleak + denominator + drive[1] + EPSILON)
            leak += (circuit.gleak * (circuit.vleak - voltages) - EPSILON * voltages) / c
            onto = circuit.sensory_target
            sensory += sensory_a * (circuit.sensory_erev - voltages[onto]) / c[onto]
            recurrent += a * (circuit.erev - voltages[circuit.target]) / c[circuit.target]
        return leak, sensory, recurrent


def predicted_cut(policy: DrivingPolicy, frames: Tensor, state: Tensor, elapsed: Tensor | None = None) -> Tensor:
    """Predict, to first order, what cutting each recurrent synapse for the last K frames would take from the steering.

    Args:
        policy: a driver with an LTC under the fused solver.
        frames: as in `explain_decision`.
        state: as in `explain_decision`.
        elapsed: as in `explain_decision`.

    Returns:
        `[S_rec]` steering as it is, less the steering without the synapse: w ∂y/∂w.

    Raises:
        ValueError: if the core is another one.
    """
    core = _fused_ltc(policy.core)
    features = policy.features(frames[None]).detach()
    times = torch.ones(len(frames)) if elapsed is None else elapsed
    gates = torch.ones(1, len(core.mu), requires_grad=True)
    with torch.enable_grad():
        motor = _run_watched(core, features, state.reshape(1, -1), times, None, gates)
        return torch.autograd.grad(motor.sum(), gates)[0][0]


def cut_change(
    policy: DrivingPolicy, frames: Tensor, state: Tensor, synapse: int, elapsed: Tensor | None = None
) -> float:
    """Cut a recurrent synapse for the last K frames: the steering as it is, less the steering without it.

    Arguments and errors as in `predicted_cut`; `synapse` is its number in the wiring's `recurrent`.
    """
    core = _fused_ltc(policy.core)
    with torch.no_grad():
        features = policy.features(frames[None]).expand(2, -1, -1)
        times = torch.ones(len(frames)) if elapsed is None else elapsed
        gates = torch.ones(2, len(core.mu))
        gates[1, synapse] = 0
        motor = _run_watched(core, features, state.reshape(1, -1).expand(2, -1), times, None, gates)
        return float(motor[0] - motor[1])


def _fused_ltc(core: nn.Module) -> LTC:
    if not isinstance(core, LTC) or core.config.solver != "fused":
        raise ValueError("synapses can be cut one by one in an LTC with solver='fused' only.")
    return core


def _integrate(
    core: nn.Module, features: Tensor, steps: int, state: Tensor, times: Tensor
) -> tuple[_Path, Tensor, Tensor]:
    """Integrate the circuit along features `[P + 1, K, F]`, straight between neighbouring points.

    Returns:
        The shares, the steering at each place of the path, and `[P, K, F]` the mean of ∂y/∂f over each interval.
    """
    points = len(features) - 1
    fine = torch.arange(points * steps + 1) / steps
    below = fine.long().clamp_max(points - 1)
    share = (fine - below)[:, None, None]
    between = features[below] + share * (features[below + 1] - features[below])  # [P · steps + 1, K, F]
    path = _Path()
    with torch.enable_grad():
        motors = _run(core, path.watch("features", between), state, times, path)
        gradient = path.integrate(motors.sum())
    mean = (0.5 * (gradient[1:] + gradient[:-1])).unflatten(0, (points, steps)).mean(1)
    return path, motors.detach(), mean


class _Path:
    """Collects what is watched along the path, and integrates ∂y/∂z dz for all of it at once."""

    def __init__(self) -> None:
        self.shares: dict[str, Tensor] = {}
        self._watched: list[tuple[str, Tensor]] = []

    def watch(self, name: str, values: Tensor) -> Tensor:
        """Note `[P, …]` values; a name that comes again is added to."""
        if not values.requires_grad:
            values = values.requires_grad_(True)
        self._watched.append((name, values))
        return values

    def integrate(self, total: Tensor) -> Tensor:
        """Fill `shares` and return the gradient of what was watched first.

        Args:
            total: the sum of y over the points of the path, which do not touch each other.
        """
        gradients = torch.autograd.grad(total, [values for _, values in self._watched], allow_unused=True)
        for (name, values), gradient in zip(self._watched, gradients, strict=True):
            share = torch.zeros_like(values[0]) if gradient is None else _trapezoids(gradient, values.detach())
            self.shares[name] = self.shares[name] + share if name in self.shares else share
        return gradients[0]


def _trapezoids(gradient: Tensor, values: Tensor) -> Tensor:
    """Return Σ ½ (g_m + g_{m+1}) (z_{m+1} − z_m) over the first dimension."""
    return (0.5 * (gradient[1:] + gradient[:-1]) * (values[1:] - values[:-1])).sum(0)


def _whitened(policy: DrivingPolicy, frames: Tensor) -> Tensor:
    """Return what the head is given: uint8 `[K, H, W, 3]` → `[K, 3, h, w]`."""
    return whiten(policy.config.preprocessing(frames)).contiguous()


def _head(policy: DrivingPolicy, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run the head over the points of a path.

    Args:
        policy: the driver.
        pictures: `[P + 1, K, 3, h, w]`.

    Returns:
        `[P + 1, K, F]` features, and for each convolution the slope `[P, K, C, h, w]` of its ReLU's secant between
        neighbouring points.
    """
    maps, slopes = pictures.flatten(0, 1), []
    for convolution in policy.head.convolutions:
        before = convolution(maps)
        maps = torch.relu(before)
        z, r = (values.unflatten(0, pictures.shape[:2]) for values in (before, maps))
        away = z[1:] - z[:-1]
        flat = away.abs() < 1e-6
        slopes.append(torch.where(flat, (z[1:] > 0).to(z.dtype), (r[1:] - r[:-1]) / torch.where(flat, 1.0, away)))
    return policy.head.read_out(maps).unflatten(0, pictures.shape[:2]), slopes


def _to_pixels(policy: DrivingPolicy, gradient: Tensor, slopes: list[Tensor]) -> Tensor:
    """Carry ∂y/∂f `[P, K, F]` back to the whitened pixels `[P, K, 3, h, w]` along the secants."""
    head, count = policy.head, gradient.shape[0] * gradient.shape[1]
    with torch.enable_grad():
        start = torch.zeros(count, 3, head.height, head.width, requires_grad=True)
        maps = start
        for convolution, slope in zip(head.convolutions, slopes, strict=True):
            maps = convolution(maps) * slope.flatten(0, 1)
        (found,) = torch.autograd.grad(head.read_out(maps), start, gradient.reshape(count, -1))
    return found.unflatten(0, gradient.shape[:2])


def _run(core: nn.Module, features: Tensor, state: Tensor, times: Tensor, path: _Path | None) -> Tensor:
    """Return the steering `[P]` at the last frame, unclamped."""
    count = len(features)
    states = state.reshape(1, -1).expand(count, -1)
    if path is not None and _has_layers(core):
        assert isinstance(core, LTC)
        return _run_watched(core, features, states, times, path)
    motors, _ = core(features, states.contiguous(), times.expand(count, -1).contiguous())
    return motors[:, -1, 0]


def _has_layers(core: nn.Module) -> bool:
    if not isinstance(core, LTC) or core.config.solver != "fused":
        return False
    return [name for name, _ in core.wiring.layers] == ["motor", "command", "inter"]


def _run_watched(
    core: LTC,
    features: Tensor,
    voltages: Tensor,
    times: Tensor,
    path: _Path | None,
    gates: Tensor | None = None,
) -> Tensor:
    """Run the fused solver and watch, frame by frame, what each synapse hears.

    Args:
        core: the circuit.
        features: `[P, K, F]`.
        voltages: `[P, N]` before.
        times: `[K]` elapsed.
        path: what watches; nobody when None.
        gates: `[P, S_rec]` factors on the recurrent conductances; ones when None.

    Returns:
        `[P]` steering at the last frame, unclamped.
    """

    def watch(name: str, values: Tensor) -> Tensor:
        return values if path is None else path.watch(name, values)

    circuit = core.circuit()
    w = circuit.w if gates is None else circuit.w * gates
    for k in range(features.shape[1]):
        heard = watch(f"sensory {k}", _map_inputs(core, features[:, k])[:, circuit.sensory_source])
        a = _open(circuit.sensory_w, circuit.sensory_sigma, circuit.sensory_mu, heard)
        pulls, conducts = (_onto(x, circuit.sensory_target, voltages) for x in (a * circuit.sensory_erev, a))
        c = circuit.cm / (times[k] / core.config.substeps)
        for _ in range(core.config.substeps):
            heard = watch(f"recurrent {k}", voltages[:, circuit.source])
            a = _open(w, circuit.sigma, circuit.mu, heard)
            numerator = _onto(a * circuit.erev, circuit.target, voltages) + pulls
            denominator = _onto(a, circuit.target, voltages) + conducts
            voltages = (c * voltages + circuit.gleak * circuit.vleak + numerator) / (
                c + circuit.gleak + denominator + EPSILON
            )
    motor = voltages[:, 0]
    if core.output_w is not None:
        motor = motor * core.output_w[0]
    return motor if core.output_b is None else motor + core.output_b[0]


def _layer_shares(core: nn.Module, path: _Path) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Gather the shares of the synapses that lead from one layer to the next."""
    if not _has_layers(core):
        return {}, {}
    assert isinstance(core, LTC)
    wiring = core.wiring
    frames = sum(name.startswith("sensory ") for name in path.shares)
    sensory = torch.stack([path.shares[f"sensory {k}"] for k in range(frames)])
    recurrent = torch.stack([path.shares[f"recurrent {k}"] for k in range(frames)])
    layers, numbers = {"sensory": sensory}, {"sensory": tuple(range(len(wiring.sensory)))}
    for layer, onto in (("inter", "command"), ("command", "motor")):
        ids, targets = wiring.layer(layer), wiring.layer(onto)
        chosen = [n for n, (i, j, _) in enumerate(wiring.recurrent) if i in ids and j in targets]
        layers[layer], numbers[layer] = recurrent[:, chosen], tuple(chosen)
    return layers, numbers


def _sum_regions(shares: Tensor, rows: int, columns: int) -> Tensor:
    masks = region_masks(shares.shape[1], shares.shape[2], (rows, columns))
    return (shares[:, None] * masks).sum((2, 3)).unflatten(1, (rows, columns))


def _map_inputs(core: LTC, inputs: Tensor) -> Tensor:
    if core.input_w is not None:
        inputs = inputs * core.input_w
    return inputs if core.input_b is None else inputs + core.input_b


def _open(w: Tensor, sigma: Tensor, mu: Tensor, heard: Tensor) -> Tensor:
    return w * torch.sigmoid(sigma * (heard - mu))


def _onto(values: Tensor, target: Tensor, like: Tensor) -> Tensor:
    return like.new_zeros(values.shape[0], like.shape[1]).index_add(1, target, values)
