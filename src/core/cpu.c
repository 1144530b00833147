/* cpu.c — feature detection: cpuid and xgetbv on x86, auxiliary vector (or the architecture's promise) on AArch64.
 * A processor may know an extension whose registers the operating system does not save: both are asked. */
#include "core/cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <stdatomic.h>

#define LEAF_7_1_EAX_AVX512_BF16 (1u << 5) /* older headers do not name it */

static unsigned long long xcr0(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((unsigned long long)hi << 32) | lo;
}

unsigned zb_cpu_features(void)
{
    unsigned a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    const unsigned long long saved = xcr0();
    const int fma = (c & bit_FMA) != 0, f16c = (c & bit_F16C) != 0, avx = (c & bit_AVX) != 0;
    if ((saved & 0x6) != 0x6 || !avx || !fma || !f16c || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if (b & bit_AVX2)
        found |= ZB_CPU_AVX2;
    const unsigned wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if (!found || (b & wanted) != wanted || (saved & 0xE6) != 0xE6)
        return found;
    found |= ZB_CPU_AVX512;
    if (c & bit_AVX512VNNI)
        found |= ZB_CPU_AVX512_VNNI;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & LEAF_7_1_EAX_AVX512_BF16))
        found |= ZB_CPU_AVX512_BF16;
    return found;
}

static unsigned amd_family(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx || c != signature_AMD_ecx || d != signature_AMD_edx ||
        !__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    return (a >> 8 & 0xF) + (a >> 20 & 0xFF);
}

unsigned zb_cpu_amd_family(void)
{
    static atomic_uint known; /* 1 more than it is: in a virtual machine cpuid takes many microseconds */
    if (!atomic_load_explicit(&known, memory_order_relaxed))
        atomic_store_explicit(&known, amd_family() + 1, memory_order_relaxed);
    return atomic_load_explicit(&known, memory_order_relaxed) - 1;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#include <asm/hwcap.h>

#define BIT_DOT  (1ul << 20) /* of AT_HWCAP; older headers do not name it  */
#define BIT_BF16 (1ul << 14) /* of AT_HWCAP2                               */

unsigned zb_cpu_features(void)
{
    const unsigned long has = getauxval(AT_HWCAP);
    if (!(has & HWCAP_ASIMD))
        return 0;
    return ZB_CPU_NEON | (has & BIT_DOT ? ZB_CPU_NEON_DOT : 0) |
           (getauxval(AT_HWCAP2) & BIT_BF16 ? ZB_CPU_NEON_BF16 : 0);
}
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

static int has(const char *name)
{
    int yes = 0;
    size_t n = sizeof yes;
    return sysctlbyname(name, &yes, &n, NULL, 0) == 0 && yes;
}

unsigned zb_cpu_features(void)
{
    return ZB_CPU_NEON | (has("hw.optional.arm.FEAT_DotProd") ? ZB_CPU_NEON_DOT : 0) |
           (has("hw.optional.arm.FEAT_BF16") ? ZB_CPU_NEON_BF16 : 0);
}
#elif defined(__aarch64__)
unsigned zb_cpu_features(void)
{
    return ZB_CPU_NEON;
}
#else
unsigned zb_cpu_features(void)
{
    return 0;
}
#endif

#if !defined(__x86_64__) && !defined(__i386__)
unsigned zb_cpu_amd_family(void)
{
    return 0;
}
#endif
