# Kernel files made for one instruction set: which ones this build has, and their flags. Included once the target
# zamba_objects exists. Every file compiles to nothing unless its ZB_HAVE_* is defined; dispatch.c gets the same
# definitions and so knows which tables there are. No other file may be compiled with instruction-set flags: a function
# that the linker picks from such a file would fault on a lesser CPU.
include(CheckCCompilerFlag)

set(ZB_KERNEL_DIR ${CMAKE_SOURCE_DIR}/src/kernels)
set(ZB_KERNEL_SETS "")

# zb_kernel_set(NAME file flags...): build `file` with `flags` if the compiler knows them all.
function(zb_kernel_set name file)
  if(NOT EXISTS ${ZB_KERNEL_DIR}/${file})
    return()
  endif()
  set(flags ${ARGN})
  if(flags)
    string(REPLACE ";" " " joined "${flags}")
    set(CMAKE_REQUIRED_QUIET ON)
    check_c_compiler_flag("${joined}" ZB_COMPILES_${name})
    if(NOT ZB_COMPILES_${name})
      message(STATUS "kernel set ${name}: the compiler lacks ${joined}")
      return()
    endif()
  endif()
  if(ZAMBA_SANITIZE) # checks make unrolled loops too long to compile
    list(APPEND flags -fno-unroll-loops)
  endif()
  set_source_files_properties(${ZB_KERNEL_DIR}/${file} PROPERTIES
    COMPILE_OPTIONS "-ffp-contract=off;-fno-math-errno;${flags}" COMPILE_DEFINITIONS ZB_HAVE_${name})
  set(ZB_KERNEL_SETS ${ZB_KERNEL_SETS} ZB_HAVE_${name} PARENT_SCOPE)
endfunction()

zb_kernel_set(GENERIC generic.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64|i.86)$")
  zb_kernel_set(AVX2 x86/avx2.c -mavx2 -mfma -mf16c)
  zb_kernel_set(AVX512 x86/avx512.c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c)
  zb_kernel_set(AVX512VNNI x86/avx512vnni.c
    -mavx512vnni -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c)
  zb_kernel_set(AVX512BF16 x86/avx512bf16.c
    -mavx512bf16 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  zb_kernel_set(NEON arm/neon.c)
  zb_kernel_set(NEONDOT arm/neondot.c -march=armv8.2-a+dotprod)
  zb_kernel_set(NEONBF16 arm/neonbf16.c -march=armv8.2-a+bf16)
endif()
set_source_files_properties(${ZB_KERNEL_DIR}/dispatch.c PROPERTIES COMPILE_DEFINITIONS "${ZB_KERNEL_SETS}")
