# Targets only; the work sits in scripts/.
.PHONY: help quickstart check test test-root test-vm bench
help:            ## print the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile
quickstart:      ## install, build an image, run a container
	scripts/quickstart
check:           ## format, lint, types, unit tests
	scripts/test lint unit
test:            ## every tier this machine can run
	scripts/test
test-root:       ## the tiers that need root
	scripts/test kernel rootless conformance
test-vm:         ## QEMU guests, the kernel tests in a pure cgroup v2 guest
	scripts/test vm
bench:           ## start-up against the peers
	scripts/bench-start
