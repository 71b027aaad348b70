"""Calling NVML (package nvidia-ml-py, module pynvml) on drivers and packages of any age."""

from __future__ import annotations

from typing import Any

FUNCTION_NOT_FOUND = 13

# NVML's error codes after which the same call may succeed later: busy, late or short of memory for a moment. After any
# other (no permission, not supported, no driver, GPU lost, …) the value is lacking for as long as this process runs.
PASSING = {
    7: "insufficient size",
    10: "timeout",
    11: "interrupt request issue",
    19: "in use",
    20: "insufficient memory",
    21: "no data",
    23: "insufficient resources",
    27: "not ready",
    29: "invalid state",
    999: "unknown error",
}


class NvmlCalls:
    """Calls of the module pynvml, by name. All that goes wrong in them is an OSError with NVML's code as `errno`."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        # A plain Exception, raised where the driver lacks the version of a function that the package asks for.
        mismatch = getattr(nvml, "NVMLLibraryMismatchError", None)
        self._mismatch: tuple[type[Exception], ...] = () if mismatch is None else (mismatch,)

    def read(self, *names: str, arguments: tuple[Any, ...] = ()) -> Any:
        """The result of the first of these functions that driver and package both have. Raises OSError."""
        for name in names:
            try:
                return self._read(name, arguments)
            except OSError as error:
                if error.errno != FUNCTION_NOT_FOUND or name == names[-1]:
                    raise
        raise AssertionError("at least one name is expected")

    def _read(self, name: str, arguments: tuple[Any, ...]) -> Any:
        try:
            function = getattr(self.nvml, name)
        except AttributeError as error:
            raise OSError(FUNCTION_NOT_FOUND, f"NVML: nvidia-ml-py has no {name}") from error
        try:
            return function(*arguments)
        except self.nvml.NVMLError as error:
            raise OSError(error.value, f"NVML: {error}") from error
        except self._mismatch as error:
            raise OSError(FUNCTION_NOT_FOUND, f"NVML: the driver has no {name} of this version") from error

    def optional(self, *names: str, arguments: tuple[Any, ...] = ()) -> Any:
        """Like `read`, but None if it fails."""
        try:
            return self.read(*names, arguments=arguments)
        except OSError:
            return None

    def field(self, handle: Any, field: int, scope: int) -> int:
        """A whole number from NVML's fields. Raises OSError."""
        (value,) = self.read("nvmlDeviceGetFieldValues", arguments=(handle, [(field, scope)]))
        if value.nvmlReturn != self.nvml.NVML_SUCCESS:
            error = self.nvml.NVMLError(value.nvmlReturn)
            raise OSError(value.nvmlReturn, f"NVML: {error}")
        return int(value.value.uiVal)


def is_lacking(error: OSError) -> bool:
    """Whether the board, its driver or this user's rights lack the value; False if it only failed to be read now."""
    return error.errno not in PASSING
