/* Counts what a process asks of the heap, for benchmarks/compare, which compiles it: preloaded into a pooler, it passes every request on to glibc and
   adds one to a counter in a file that the benchmark maps too (PGPORTER_ALLOCATIONS_FILE: requests, bytes; 64 bits each). operator new comes this
   way as well. */

#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

struct counters {
    _Atomic uint64_t requests, bytes;
};

static struct counters nowhere;
static struct counters *counters = &nowhere;

__attribute__((constructor)) static void map_counters(void) {
    const char *path = getenv("PGPORTER_ALLOCATIONS_FILE");
    int file = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED) counters = memory;
}

static void count(size_t size) {
    atomic_fetch_add_explicit(&counters->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->bytes, size, memory_order_relaxed);
}

void *malloc(size_t size) {
    count(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count(number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *block, size_t size) {
    count(size);
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
    *block = memalign(alignment, size);
    return *block != NULL ? 0 : 12; /* ENOMEM */
}
