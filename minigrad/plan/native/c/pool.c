// One pool of worker threads for the process: pool_run runs a task once for each of `workers` shares.
//
// The caller does share 0, and each thread has one other. What has no thread, or one that has not begun when the caller
// is done (it had to be woken, or its processor is busy with something else), the caller does too. A thread that has
// done its share spins for a while, so that a call that soon follows need not wake it, and then sleeps. The shares must
// not wait for one another: while the pool is busy with one caller's task, another caller (a second thread of the
// program, or a task that itself calls pool_run) does all of its shares alone, one after the other.
//
// A forked child has none of the threads; its first call makes new ones.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define MOST_THREADS 255
#define SPIN_NANOSECONDS 50000

typedef void (*pool_task)(void *context, int worker, int workers);

// What a thread waits on. `signal` counts what it is to wake up for, `taken` the last of them that somebody does;
// `asleep` says that somebody must wake it.
typedef struct {
    _Alignas(128) atomic_uint signal; // a cache line (two, as they are fetched in pairs) of its own
    atomic_uint taken;
    atomic_int asleep;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} gate;

static gate gates[MOST_THREADS + 1]; // of thread 1, 2, ...; gates[0] is the caller's, signalled when all is done
static atomic_int threads;           // alive; like `task` and what follows it, only whoever holds `busy` changes it
static atomic_flag busy = ATOMIC_FLAG_INIT;
static pool_task task;
static void *task_context;
static int task_workers;
static atomic_int remaining; // shares, of those that have a thread, that are not finished

static inline void relax(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__ || defined __arm__
    __asm__ volatile("yield");
#endif
}

static long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// Waits until the gate's signal is no longer `seen`, and returns it: spinning first, then asleep.
static unsigned wait_for(gate *g, unsigned seen) {
    long long end = 0;
    unsigned signal;
    for (unsigned turn = 1;; turn++) {
        signal = atomic_load_explicit(&g->signal, memory_order_acquire);
        if (signal != seen) return signal;
        relax();
        if (turn % 64 == 0) { // not each time: both calls cost as much as several turns
            sched_yield();    // with more threads than free processors, who is waited for may need this one
            long long now = nanoseconds();
            if (end == 0) end = now + SPIN_NANOSECONDS;
            if (now > end) break;
        }
    }
    pthread_mutex_lock(&g->mutex);
    // Sequentially consistent, as in open_gate: one of the two sees what the other has written.
    atomic_store(&g->asleep, 1);
    while ((signal = atomic_load(&g->signal)) == seen) pthread_cond_wait(&g->wake, &g->mutex);
    atomic_store(&g->asleep, 0);
    pthread_mutex_unlock(&g->mutex);
    return signal;
}

static void open_gate(gate *g) {
    atomic_fetch_add(&g->signal, 1);
    if (atomic_load(&g->asleep)) {
        pthread_mutex_lock(&g->mutex);
        pthread_cond_signal(&g->wake);
        pthread_mutex_unlock(&g->mutex);
    }
}

// Takes the share that the signal is for; false if somebody has it. No run ends before all of its shares were taken, so
// a thread that comes late, with the signal of a run that has ended, finds that share taken.
static int take(gate *g, unsigned signal) {
    unsigned before = signal - 1;
    return atomic_compare_exchange_strong(&g->taken, &before, signal);
}

static void *work(void *number) {
    int worker = (int)(long)number;
    gate *g = &gates[worker];
    for (unsigned signal = 0;;) {
        signal = wait_for(g, signal);
        if (!take(g, signal)) continue;
        task(task_context, worker, task_workers);
        if (atomic_fetch_sub(&remaining, 1) == 1) open_gate(&gates[0]);
    }
    return 0;
}

// Sets all back to the beginning; also in a forked child, where `busy` may have been held by a thread that is not
// there.
static void reset(void) {
    threads = 0;
    for (int i = 0; i <= MOST_THREADS; i++) {
        atomic_init(&gates[i].signal, 0);
        atomic_init(&gates[i].taken, 0);
        atomic_init(&gates[i].asleep, 0);
        pthread_mutex_init(&gates[i].mutex, 0);
        pthread_cond_init(&gates[i].wake, 0);
    }
    atomic_flag_clear(&busy);
}

static void set_up(void) {
    reset();
    pthread_atfork(0, 0, reset);
}

// Threads 1 to `wanted`, or as many of them as can be made. They leave all signals to the program's own threads.
static void make_threads(int wanted) {
    pthread_attr_t detached;
    if (threads >= wanted) return;
#ifndef _WIN32 // which has no signals
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 4 << 20); /* blocks of rows are on the stack; some systems give it 128 KiB */
    while (threads < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, &detached, work, (void *)(long)(threads + 1))) break;
        threads++;
    }
    pthread_attr_destroy(&detached);
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, 0);
#endif
}

static void run_all(pool_task f, void *context, int first, int workers) {
    for (int worker = first; worker < workers; worker++) f(context, worker, workers);
}

void pool_run(pool_task f, void *context, int workers) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (workers <= 1 || pthread_once(&once, set_up) || atomic_flag_test_and_set_explicit(&busy, memory_order_acquire)) {
        run_all(f, context, 0, workers);
        return;
    }
    make_threads(workers - 1 < MOST_THREADS ? workers - 1 : MOST_THREADS);
    int others = workers - 1 < threads ? workers - 1 : threads;
    if (others > 0) {
        unsigned seen = atomic_load(&gates[0].signal);
        task = f;
        task_context = context;
        task_workers = workers;
        atomic_store(&remaining, others);
        for (int worker = 1; worker <= others; worker++) open_gate(&gates[worker]);
        f(context, 0, workers);
        run_all(f, context, others + 1, workers);
        int done = 0;
        for (int worker = others; worker >= 1; worker--) { // the last was signalled last
            if (!take(&gates[worker], atomic_load(&gates[worker].signal))) continue;
            f(context, worker, workers);
            done++;
        }
        // If the last share was the caller's, no thread signals; otherwise the one that finishes last does.
        if (done == 0 || atomic_fetch_sub(&remaining, done) != done) wait_for(&gates[0], seen);
    } else {
        run_all(f, context, 0, workers);
    }
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

// How many threads there are beside the callers'.
int pool_threads(void) { return threads; }
