# Flags of the kernel files that are made for one instruction set. Filled in by the kernels.
