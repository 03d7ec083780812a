// What lavapipe allocates as device memory, of any program: it takes every allocation of Vulkan by posix_memalign at
// pages. Prints the number of allocations and the largest sum of live bytes when the program ends.
//
//   cc -O1 -shared -fPIC -o /tmp/allocations.so allocations.c -ldl -lpthread
//   LD_PRELOAD=/tmp/allocations.so wgrad bench W4 --here
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE 4096
#define SLOTS 65536

static int (*next_memalign)(void **, size_t, size_t);
static void (*next_free)(void *);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { void *at; size_t bytes; } known[SLOTS];
static size_t live, most, count;

static size_t slot(const void *at) { return ((size_t)at / PAGE) % SLOTS; }

int posix_memalign(void **at, size_t alignment, size_t bytes) {
    if (!next_memalign) next_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    int error = next_memalign(at, alignment, bytes);
    if (error || alignment != PAGE) return error;
    pthread_mutex_lock(&lock);
    for (size_t i = 0, h = slot(*at); i < SLOTS; i++, h = (h + 1) % SLOTS) {
        if (known[h].at) continue;
        known[h].at = *at;
        known[h].bytes = bytes;
        live += bytes;
        count++;
        if (live > most) most = live;
        break;
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

void free(void *at) {
    if (!next_free) next_free = dlsym(RTLD_NEXT, "free");
    if (at && (size_t)at % PAGE == 0) {
        pthread_mutex_lock(&lock);
        // Far enough for what was displaced; freed slots are not filled up again.
        for (size_t i = 0, h = slot(at); i < 256; i++, h = (h + 1) % SLOTS) {
            if (known[h].at != at) continue;
            live -= known[h].bytes;
            known[h].at = 0;
            break;
        }
        pthread_mutex_unlock(&lock);
    }
    next_free(at);
}

__attribute__((destructor)) static void report(void) {
    fprintf(stderr, "device memory: %zu allocations, at most %.2f MiB\n", count, most / 1048576.0);
}
