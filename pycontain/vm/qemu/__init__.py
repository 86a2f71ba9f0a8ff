"""A real guest: QEMU boots a kernel with an image as its root and runs one command in it.

Owns everything from finding a kernel to reaping QEMU. Images come as rootfs directories; the
image store is the caller's business.
"""
