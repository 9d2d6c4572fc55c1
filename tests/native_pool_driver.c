// Many runs of the pool, from one thread and from several at once; built with the thread sanitizer by
// test_native_pool.py.
#include "pool.c"

#include <stdio.h>

enum { WORKERS = 4, RUNS = 2000, CALLERS = 3 };

typedef struct {
    int runs[WORKERS * 64]; // not atomic: the pool itself has to order what the shares and the caller do with it
} counts;

static void count(void *context, int worker, int workers) {
    counts *c = context;
    if (workers == WORKERS) c->runs[worker * 64]++;
}

static void *call(void *context) {
    for (int run = 0; run < RUNS; run++) {
        pool_run(count, context, WORKERS);
        for (int worker = 0; worker < WORKERS; worker++)
            if (((counts *)context)->runs[worker * 64] != run + 1) return "a share is missing, or was done twice";
    }
    return 0;
}

int main(void) {
    static counts own[CALLERS];
    pthread_t callers[CALLERS];
    void *problem = 0, *first = call(&own[0]);
    if (first) return puts(first), 1;
    memset(own, 0, sizeof own);
    for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], 0, call, &own[i]);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i], &problem);
        if (problem) return puts(problem), 1;
    }
    return puts("ok"), 0;
}
