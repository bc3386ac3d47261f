/* SANITIZED: 1 where the test is built with AddressSanitizer or ThreadSanitizer, otherwise 0. They make products many
 * times slower, take much address space and replace the allocator. */
#ifndef COHORT_TESTS_SUPPORT_SANITIZED_H
#define COHORT_TESTS_SUPPORT_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* SLOW: 1 where everything takes many times longer: SANITIZED, or on an emulated processor (cmake/aarch64.cmake). */
#ifdef COHORT_EMULATED_CPU
#define SLOW 1
#else
#define SLOW SANITIZED
#endif

#endif
