"""The native parts: `_core` (extension module) and `bin/` (static programs), built when possible.

What is missing after a build without a compiler is replaced by Python: see `syscalls.fallback`.
"""
