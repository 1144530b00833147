# arm64.cmake — toolchain file: Debian's cross compiler for 64-bit ARM; libraries are those that scripts/arm64.sh
# unpacked into the build folder. Tests run under qemu: QEMU_LD_PREFIX and QEMU_CPU say with which libc, as which CPU.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
set(CMAKE_FIND_ROOT_PATH ${CMAKE_BINARY_DIR}/root)
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath,${CMAKE_BINARY_DIR}/root/usr/lib/aarch64-linux-gnu)
