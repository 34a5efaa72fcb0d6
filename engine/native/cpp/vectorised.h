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
