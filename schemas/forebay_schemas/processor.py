"""What this machine's processor can do."""

from pathlib import Path


def computes_in_bfloat16() -> bool:
    """Whether it has units for bfloat16. Without them it is emulated, several times slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
