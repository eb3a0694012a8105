"""Compile Triton kernels for a GPU that need not be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def compile_for_hopper(function: Any, constants: Mapping[str, Any], kinds: Mapping[str, str], number: str) -> Any:
    """Compile a kernel for an H100 or H200, whatever this machine has.

    Args:
        function: the kernel.
        constants: its compile-time arguments, and `num_warps` and `enable_fp_fusion`.
        kinds: types of arguments, such as "*u8" or "i32", where they are not pointers to numbers.
        number: "fp32" or "fp64", of those.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {name: constants[name] for name in ("num_warps", "enable_fp_fusion")}
    constants = {name: value for name, value in constants.items() if name not in options}
    kinds = {**kinds, **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, f"*{number}") for name in function.arg_names}
    places = {(function.arg_names.index(name),): value for name, value in constants.items()}
    return triton.compile(ASTSource(function, signature, places), target=GPUTarget("cuda", 90, 32), options=options)
