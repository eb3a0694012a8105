"""The Triton kernels against the reference.

Where there is no GPU the kernels run in Triton's interpreter, which has to be switched on before Triton is imported:
`tests/policies/kernels/test_interpreted.py` runs this file again in a process of its own. What the interpreter does not
notice, the compiler does: `test_compiles_for_a_gpu` goes down to machine code for a GPU that need not be there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from policies.kernels.gpu import HAS_TRITON, interpreted
from policies.kernels.ltc import reference
from policies.kernels.ltc.reference import Circuit
from policies.kernels.ltc.triton import layout
from policies.kernels.ltc.triton import op as cuda
from policies.wiring.wiring import Wiring
from tests.policies.kernels.hopper import compile_for_hopper

GPU = torch.cuda.is_available()
RUNS = HAS_TRITON and (GPU or interpreted())
DEVICE = "cuda" if GPU else "cpu"

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton: pip install -e '.[cuda]'")
needs_kernels = pytest.mark.skipif(not RUNS, reason="runs in test_interpreted.py, or on a GPU")
long = () if GPU else pytest.mark.thorough  # the interpreter takes some milliseconds a row and step

# Largest difference from the float64 reference, relative to the largest value of that tensor.
TOLERANCES = {
    torch.float32: {"voltages": 5e-6, "state": 5e-6, "gradient": 1e-4 if GPU else 5e-6},
    torch.float64: {"voltages": 1e-13, "state": 1e-13, "gradient": 1e-12},
}

# wiring, N, I, B, T, substeps
CASES = [
    ("full", 3, 2, 1, 1, 3),
    ("full", 3, 3, 2, 3, 2),
    ("ncp", 19, 5, 2, 2, 1),
    ("random", 80, 4, 1, 2, 1),
    *(
        pytest.param(case, marks=long)
        for case in [
            ("full", 3, 2, 17, 2, 1),
            ("full", 3, 3, 3, 5, 2),
            ("ncp", 19, 32, 1, 4, 6),
            ("ncp", 19, 5, 3, 3, 3),
            ("full", 19, 4, 3, 1, 2),
            ("ncp", 19, 19, 5, 2, 1),
            ("random", 302, 8, 1, 2, 2),
        ]
    ),
]
GPU_CASES = [
    ("full", 3, 2, 33, 5, 1),
    ("full", 3, 3, 7, 9, 2),
    ("ncp", 19, 5, 7, 5, 3),
    ("ncp", 19, 19, 19, 2, 1),
    ("full", 3, 3, 1, 63, 6),
    ("ncp", 19, 32, 33, 100, 6),
    ("full", 64, 8, 7, 63, 6),
    ("random", 302, 32, 33, 63, 6),
]


@needs_kernels
@pytest.mark.parametrize("case", CASES + (GPU_CASES if GPU else []), ids=str)
def test_agrees_with_the_reference(case, nan_scratch):
    problem = make_problem(*case)
    check(problem, case[-1], torch.float32)


@needs_kernels
@pytest.mark.parametrize("case", [("full", 3, 2, 2, 2, 1), pytest.param(("ncp", 19, 5, 3, 3, 6), marks=long)], ids=str)
def test_list_kernels_run_small_circuits_too(case, nan_scratch, fresh_layouts, monkeypatch):
    monkeypatch.setattr(layout, "DENSE_LIMIT", 0)
    check(make_problem(*case), case[-1], torch.float32)


@needs_kernels
@pytest.mark.parametrize("case", [("full", 3, 2, 1, 2, 1), ("random", 80, 4, 1, 1, 1)], ids=str)
def test_float64(case, nan_scratch):
    check(make_problem(*case, dtype=torch.float64), case[-1], torch.float64)


@needs_kernels
@pytest.mark.parametrize("limit", [layout.DENSE_LIMIT, 0], ids=["dense", "sparse"])
def test_a_program_may_walk_several_rows(limit, nan_scratch, fresh_layouts, monkeypatch):
    from policies.kernels.ltc.triton import launch

    monkeypatch.setattr(launch, "MOST_PROGRAMS", 2)
    monkeypatch.setattr(launch, "ROWS", 2)
    monkeypatch.setattr(layout, "DENSE_LIMIT", limit)
    check(make_problem("full", 3, 2, 3, 2, 1), 1, torch.float32)  # 3 rows, and 3 blocks of sensory input


@needs_kernels
@pytest.mark.thorough
@pytest.mark.parametrize("limit", [layout.DENSE_LIMIT, 0], ids=["dense", "sparse"])
def test_a_program_may_walk_several_rows_of_a_larger_problem(limit, nan_scratch, fresh_layouts, monkeypatch):
    from policies.kernels.ltc.triton import launch

    monkeypatch.setattr(launch, "MOST_PROGRAMS", 2)
    monkeypatch.setattr(layout, "DENSE_LIMIT", limit)
    check(make_problem("ncp", 9, 3, 5, 14, 1), 1, torch.float32)  # 5 rows, and 70 rows of sensory input


@needs_kernels
def test_doubled_synapses_add_up(nan_scratch):
    problem = make_problem("full", 3, 2, 1, 2, 1)
    c = problem["circuit"]
    twice = [torch.cat([x, x]) for x in (c.w, c.mu, c.sigma, c.erev, c.source, c.target)]
    problem["circuit"] = c._replace(**dict(zip(("w", "mu", "sigma", "erev", "source", "target"), twice, strict=True)))
    check(problem, 1, torch.float32)


@needs_kernels
@pytest.mark.parametrize("kind", ["sensory", "recurrent"])
def test_no_synapses_of_a_kind(kind, nan_scratch):
    problem = make_problem("full", 4, 2, 1, 2, 1)
    prefix = "sensory_" if kind == "sensory" else ""
    names = [prefix + name for name in ("w", "mu", "sigma", "erev", "source", "target")]
    empty = {name: getattr(problem["circuit"], name)[:0] for name in names}
    problem["circuit"] = problem["circuit"]._replace(**empty)
    check(problem, 1, torch.float32)


@needs_kernels
@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # numpy's; exp gives inf, the gate 0
def test_huge_inputs_stay_inside_the_bounds():
    problem = make_problem("ncp", 9, 3, 1, 2, 1)
    problem["inputs"] = problem["inputs"] * 1e6
    problem["state"] = problem["state"] * 0
    voltages, *gradients = run(cuda.ltc_sequence, problem, 1)
    assert all(bool(x.isfinite().all()) for x in (voltages, *gradients))
    assert float(voltages.abs().max()) <= 1 + 1e-5


@needs_kernels
def test_bf16_inputs_are_computed_in_float32():
    problem = make_problem("full", 3, 2, 1, 2, 1)
    half = {**problem, "inputs": problem["inputs"].bfloat16()}
    voltages, grad_inputs, *_ = run(cuda.ltc_sequence, half, 1)
    assert voltages.dtype == torch.float32 and grad_inputs.dtype == torch.bfloat16
    full = run(cuda.ltc_sequence, {**problem, "inputs": half["inputs"].float()}, 1)
    torch.testing.assert_close(voltages, full[0], rtol=0, atol=0)


@needs_kernels
def test_runs_repeat_bit_for_bit():
    problem = make_problem("full", 3, 2, 2, 2, 1)
    for first, second in zip(run(cuda.ltc_sequence, problem, 1), run(cuda.ltc_sequence, problem, 1), strict=True):
        assert torch.equal(first, second)


@needs_kernels
@pytest.mark.parametrize(
    "checks", [("test_schema", "test_faketensor"), pytest.param(("test_aot_dispatch_dynamic",), marks=long)], ids=str
)
def test_are_well_behaved_torch_ops(checks):
    problem = make_problem("full", 3, 2, 2, 2, 1)
    sequences = [problem[name] for name in ("inputs", "state", "elapsed", "starts")]
    circuit = problem["circuit"]
    torch.library.opcheck(cuda._forward, (*sequences, *circuit, 1), test_utils=checks)
    voltages = cuda.ltc_sequence(*sequences, circuit, 1)
    groups = sequences, list(circuit[:11]), list(circuit[11:])
    torch.library.opcheck(cuda._backward, (voltages, voltages, *groups, 1), test_utils=checks)


@needs_kernels
def test_a_gradient_penalty_is_refused():
    problem = make_problem("full", 3, 2, 2, 2, 1)
    sequences = [problem[name] for name in ("inputs", "state", "elapsed", "starts")]
    inputs = sequences[0].detach().requires_grad_()
    voltages = cuda.ltc_sequence(inputs, *sequences[1:], problem["circuit"], 1)
    (slope,) = torch.autograd.grad(voltages.sum(), inputs, create_graph=True)
    with pytest.raises(NotImplementedError, match="kernel='reference'"):
        slope.square().sum().backward()


@needs_kernels
def test_core_gives_the_same_with_this_kernel(monkeypatch):
    from policies.cores import make_core

    core = make_core("ltc", 5, 2, {"units": 9, "substeps": 2}).to(DEVICE)
    inputs = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    results = []
    for kernel in ("reference", "cuda"):
        for where in ("policies.kernels.ltc.dispatch", "policies.cores.ltc"):
            monkeypatch.setattr(f"{where}.choose_kernel", lambda *_, kernel=kernel: kernel)
        outputs, state = core(inputs)
        gradients = torch.autograd.grad(outputs.square().sum() + state.sum(), list(core.parameters()))
        results.append((outputs, state, *gradients))
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@needs_kernels
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo's own
def test_works_under_torch_compile():
    problem = make_problem("full", 3, 2, 2, 2, 2)

    def op(*args):
        return cuda.ltc_sequence(*args) * 1

    compiled = torch.compile(op, backend="aot_eager", fullgraph=True)
    for got, want in zip(run(compiled, problem, 2), run(op, problem, 2), strict=True):
        torch.testing.assert_close(got, want)


@needs_kernels
def test_works_under_torch_func_grad():
    problem = make_problem("full", 3, 2, 2, 2, 1)
    sequences = [problem[name] for name in ("inputs", "state", "elapsed", "starts")]

    def loss(cm, op):
        return op(*sequences, problem["circuit"]._replace(cm=cm), 1).square().sum()

    got, want = (torch.func.grad(loss)(problem["circuit"].cm, op) for op in (cuda.ltc_sequence, reference.ltc_sequence))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@needs_kernels
def test_layout_is_built_once_and_again_after_a_change(fresh_layouts):
    problem = make_problem("full", 3, 2, 1, 1, 1)
    for _ in range(3):
        run(cuda.ltc_sequence, problem, 1)
    assert fresh_layouts.count("dense_layout") == 1
    problem["circuit"].source.copy_(problem["circuit"].source.flip(0))
    check(problem, 1, torch.float32)
    assert fresh_layouts.count("dense_layout") == 2


def test_dense_layout_leaves_out_what_nothing_reaches():
    wiring = Wiring.auto_ncp(19, 1, 32)
    source, target = (torch.tensor(wiring.recurrent_array[:, i]) for i in (0, 1))
    found = layout.dense_layout(source, target, 19)
    assert (found.coupled_pad, found.free_pad) == (8, 16)  # 7 command and 1 motor neuron; 11 inter neurons
    rows, columns = (found.slots >= 0).nonzero(as_tuple=True)
    row_ids = torch.full((24,), -1)
    row_ids[: len(found.coupled)], row_ids[8 : 8 + len(found.free)] = found.coupled.long(), found.free.long()
    slots = found.slots[rows, columns].long()
    assert sorted(slots.tolist()) == list(range(len(source)))
    assert torch.equal(row_ids[rows], source[slots]) and torch.equal(found.coupled.long()[columns], target[slots])


@pytest.mark.skipif(interpreted(), reason="no matter of the interpreter's")
def test_imports_without_triton_and_names_the_extra():
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from policies.kernels.ltc.triton import op as cuda\n"
        "x = torch.zeros(1)\n"
        "try: cuda.ltc_sequence(x, x, x, x, None)\n"
        "except ModuleNotFoundError as error: assert '.[cuda]' in str(error), error\n"
        "else: raise SystemExit('no error')\n"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_triton
@pytest.mark.skipif(interpreted(), reason="the interpreter takes any device")
def test_tensors_on_the_cpu_are_refused():
    problem = make_problem("full", 3, 2, 1, 1, 1, device="cpu")
    with pytest.raises(ValueError, match="GPU"):
        run(cuda.ltc_sequence, problem, 1)


@needs_triton
@pytest.mark.skipif(interpreted(), reason="the interpreter replaces what the compiler wants")
@pytest.mark.parametrize(
    "kernel",
    [
        "sensory",
        "dense_specialised",
        # Seconds each.
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in ("dense", "dense_float64", "dense_large", "sparse")
        ),
    ],
)
def test_compiles_for_a_gpu(kernel, tmp_path, monkeypatch):
    """Every kernel compiles for compute capability 9.0 and needs no more than a block's registers."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from policies.kernels.ltc.triton import dense, launch, sensory, sparse

    both, circuit = (dense.dense_forward, dense.dense_backward), {"SUBSTEPS": 6}
    small, large = launch.dense_shape(8, 16), launch.sparse_shape(302)
    rows = {"ROWS": 32, **launch.FUSE_MULTIPLY_ADD}
    for function, constants in {
        # Triton compiles an argument that is 1 as a constant.
        "dense": zip(both, [{**small, **circuit}] * 2, strict=True),
        "dense_specialised": zip(both, [{**small, **circuit, "batch": 1, "steps": 1}] * 2, strict=True),
        "dense_float64": zip(both, [{**small, **circuit}] * 2, strict=True),
        "dense_large": zip(both, [{**launch.dense_shape(64, 4), **circuit}] * 2, strict=True),
        "sparse": zip((sparse.sparse_forward, sparse.sparse_backward), [{**large, **circuit}] * 2, strict=True),
        "sensory": (
            (sensory.sensory_forward, {**rows, "TARGETS": 16, "num_warps": 4}),
            (sensory.sensory_backward, {**rows, "SOURCES": 16, "num_warps": 4}),
        ),
    }[kernel]:
        compiled = compile_kernel(function, dict(constants), "fp64" if kernel == "dense_float64" else "fp32")
        assert ".target sm_90" in compiled.asm["ptx"]
        assert len(compiled.asm["cubin"]) > 1000


def compile_kernel(function, constants, number):
    """Compile a kernel of the LTC."""
    kinds = dict.fromkeys(("coupled", "free", "slots", "in_slots", "out_slots"), "*i32")
    kinds |= {"starts": "*u8", "source": "*i64", "target": "*i64"}
    sizes = "batch steps neurons synapses coupled_count free_count fan_in fan_out rows input_size".split()
    return compile_for_hopper(function, constants, kinds | dict.fromkeys(sizes, "i32"), number)


@pytest.fixture
def nan_scratch(monkeypatch):
    """Fill the kernels' unwritten memory with NaN, so that reading it shows."""
    from policies.kernels.ltc.triton import launch

    monkeypatch.setattr(launch, "scratch", lambda like, *shape: like.new_full(shape, float("nan")))


@pytest.fixture
def fresh_layouts(monkeypatch):
    """Give the launcher empty layout caches; returns the names of the layouts that get built."""
    from policies.kernels.ltc.triton import launch

    built = []

    def logged(build):
        return lambda *args: (built.append(build.__name__), build(*args))[1]

    for name, build in (("_dense_layouts", layout.dense_layout), ("_sparse_layouts", layout.sparse_layout)):
        monkeypatch.setattr(launch, name, layout.LayoutCache(logged(build)))
    return built


def make_problem(kind, neurons, inputs, batch, steps, substeps, dtype=torch.float32, device=DEVICE):
    """Draw a wiring, parameters in their initial ranges, and sequences with starts and uneven time steps."""
    rng = torch.Generator().manual_seed(neurons * 1000 + batch * 10 + steps)
    wiring = {
        "ncp": lambda: Wiring.auto_ncp(neurons, 1, inputs),
        "full": lambda: Wiring.fully_connected(neurons, 1, inputs),
        "random": lambda: Wiring.random(neurons, 1, inputs, sparsity=0.95),
    }[kind]()

    def uniform(low, high, *shape):
        return (torch.rand(shape, generator=rng, dtype=torch.float64) * (high - low) + low).to(device, dtype)

    def synapses(array):
        count = len(array)
        draws = uniform(0.001, 1, count), uniform(0.3, 0.8, count), uniform(3, 8, count)
        return *draws, torch.tensor(array[:, 2]).to(device, dtype)

    sensory, recurrent = wiring.sensory_array, wiring.recurrent_array
    ends = [torch.tensor(array[:, i], device=device) for array in (sensory, recurrent) for i in (0, 1)]
    leaks = uniform(0.001, 1, neurons), uniform(-0.2, 0.2, neurons), uniform(0.4, 0.6, neurons)
    return {
        "inputs": torch.randn(batch, steps, inputs, generator=rng, dtype=torch.float64).to(device, dtype),
        "state": uniform(-1, 1, batch, neurons),
        "elapsed": uniform(0.3, 2, batch, steps),
        "starts": (torch.rand(batch, steps, generator=rng) < 0.25).to(device),
        "circuit": Circuit(*leaks, *synapses(sensory), *synapses(recurrent), *ends),
    }


def run(op, problem, substeps, dtype=None):
    """Return voltages and the gradients of everything, of a loss that weighs every voltage differently."""
    dtype = dtype or problem["state"].dtype
    numbers = [problem["inputs"], problem["state"], problem["elapsed"], *problem["circuit"][:11]]
    if op is reference.ltc_sequence:
        numbers = [x.to(dtype) for x in numbers]
    leaves = [x.detach().clone().requires_grad_() for x in numbers]
    circuit = Circuit(*leaves[3:], *problem["circuit"][11:])
    voltages = op(*leaves[:3], problem["starts"], circuit, substeps)
    weights = torch.randn(voltages.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return voltages.detach(), *torch.autograd.grad(voltages, leaves, weights.to(voltages))


def check(problem, substeps, dtype):
    """Hold the kernel to the reference, which computes in float64 from the same numbers."""
    limits = TOLERANCES[dtype]
    names = ["voltages", "inputs", "state", "elapsed", *Circuit._fields[:11]]
    got = run(cuda.ltc_sequence, problem, substeps)
    want = run(reference.ltc_sequence, problem, substeps, torch.float64)
    assert_near("state", got[0][:, -1], want[0][:, -1], limits["state"])
    for name, ours, theirs in zip(names, got, want, strict=True):
        assert_near(name, ours, theirs, limits["voltages" if name == "voltages" else "gradient"])


def assert_near(name, got, want, tolerance):
    assert got.shape == want.shape, name
    if got.numel():
        error = float((got.double() - want).abs().max() / want.abs().max().clamp_min(1e-12))
        assert error <= tolerance, f"{name}: off by {error:.1e} of its largest value, allowed {tolerance:.0e}"
