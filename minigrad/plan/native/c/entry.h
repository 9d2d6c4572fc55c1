/* What Python calls. `run` spreads a task over threads: run(task, context, workers). */
typedef void run_function(void (*task)(void *, int, int), void *context, int workers);

static void spread(run_function *run, void (*task)(void *, int, int), struct job *job, long workers) {
    if (workers > 1) run(task, job, (int)workers);
    else task(job, 0, 1);
}

/* Steps first..last-1, in chunks of so many steps. No more threads have rows than there are sequences. */
void forward(struct job *job, run_function *run, long workers, long first, long last, long chunk) {
    const long with_rows = workers < job->batch ? workers : job->batch;
    job->phase = 0;
    if (job->pack) spread(run, pack_all, job, workers);
    for (long t = first; t < last; t += chunk) {
        job->first = t;
        job->last = t + chunk < last ? t + chunk : last;
        spread(run, forward_rows, job, with_rows);
    }
}

void backward(struct job *job, run_function *run, long workers, long first, long last, long chunk, long add) {
    const long with_rows = workers < job->batch ? workers : job->batch;
    job->phase = 1;
    job->add = add;
    spread(run, pack_all, job, workers);
    for (long t = first + (last - first - 1) / chunk * chunk; t >= first; t -= chunk) {
        job->first = t;
        job->last = t + chunk < last ? t + chunk : last;
        spread(run, backward_rows, job, with_rows);
        spread(run, totals, job, workers);
        job->add = 1;
    }
}
