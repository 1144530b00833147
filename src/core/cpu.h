/* cpu.h — what the processor we run on can execute, asked once. Says nothing about who uses it. */
#ifndef ZB_CPU_H
#define ZB_CPU_H

#include <stddef.h>

/* Bits of zb_cpu_features(). A bit is set only if the operating system saves the registers too. */
enum {
    ZB_CPU_AVX2 = 1,         /* AVX2, FMA, F16C                                  */
    ZB_CPU_AVX512 = 2,       /* AVX-512 F, BW, VL, DQ on top of ZB_CPU_AVX2      */
    ZB_CPU_NEON = 4,         /* AArch64 Advanced SIMD                            */
    ZB_CPU_AVX512_BF16 = 8,  /* AVX-512 BF16 on top of ZB_CPU_AVX512             */
    ZB_CPU_NEON_BF16 = 16,   /* BFDOT and its kin on top of ZB_CPU_NEON          */
    ZB_CPU_AVX512_VNNI = 32, /* AVX-512 VNNI on top of ZB_CPU_AVX512            */
    ZB_CPU_NEON_DOT = 64     /* SDOT and UDOT on top of ZB_CPU_NEON             */
};

unsigned zb_cpu_features(void);

/* The family of an AMD x86 (0x19: Zen 3 and 4, 0x1A: Zen 5), 0: another maker's. Looked up once. */
unsigned zb_cpu_amd_family(void);

#endif
