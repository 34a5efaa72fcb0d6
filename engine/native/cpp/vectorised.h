// How a loop is compiled once for each kind of processor.
#pragma once

// The archive is built for the oldest processor; on x86-64 the loader picks the version of each loop that
// suits the processor at hand. FMA brings AVX, which is all that float32 needs of AVX2.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx512f", "fma", "default")))
// Of integers AVX2 does twice as many at a time.
#define VECTORISED_INTEGERS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORISED
#define VECTORISED_INTEGERS
#endif
// What a loop calls has to be compiled with it.
#define IN_LOOP inline __attribute__((always_inline))

// Loops that need FMA and the integers of AVX2 at once, which clones cannot ask for: `NAME` calls
// `NAME##_loop`, which is IN_LOOP, as compiled for the processor at hand.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED_FULLY(NAME, PARAMETERS, ARGUMENTS)                                               \
  __attribute__((target("avx512f"))) static void NAME##_avx512 PARAMETERS { NAME##_loop ARGUMENTS; } \
  __attribute__((target("avx2,fma"))) static void NAME##_avx2 PARAMETERS { NAME##_loop ARGUMENTS; }  \
  void NAME PARAMETERS {                                                                           \
    static const bool wide = __builtin_cpu_supports("avx512f");                                    \
    static const bool fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");     \
    if (wide)                                                                                      \
      NAME##_avx512 ARGUMENTS;                                                                     \
    else if (fused)                                                                                \
      NAME##_avx2 ARGUMENTS;                                                                       \
    else                                                                                           \
      NAME##_loop ARGUMENTS;                                                                       \
  }
#else
#define VECTORISED_FULLY(NAME, PARAMETERS, ARGUMENTS)                                               \
  void NAME PARAMETERS { NAME##_loop ARGUMENTS; }
#endif
