"""The comparison: one workload in many arms, measured, emulated or simulated, and reported.

Owns arms, runs, statistics and reports. What a container, a guest or a simulated hypervisor is,
belongs to `engine`, `vm.qemu` and `vm.sim`.
"""
