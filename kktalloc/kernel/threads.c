/* Work shared between threads that live for one call: nothing outlives it, so a fork finds nothing to break. */
#include "problem.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>

typedef struct {
    void (*work)(void *, ptrdiff_t);
    void *shared;
    ptrdiff_t items, next;
} Queue;

static void *take_turns(void *argument)
{
    Queue *queue = argument;
    for (;;) {
        const ptrdiff_t item = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);
        if (item >= queue->items) return NULL;
        queue->work(queue->shared, item);
    }
}

void in_parallel(void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items, int threads)
{
    enum { MOST = 64 };
    Queue queue = {work, shared, items, 0};
    pthread_t others[MOST];
    int started = 0;
    while (started < MOST && started + 1 < threads && started + 1 < items
           && pthread_create(&others[started], NULL, take_turns, &queue) == 0)
        started++;
    take_turns(&queue);
    while (started) pthread_join(others[--started], NULL);
}

#else

void in_parallel(void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items, int threads)
{
    (void)threads;
    for (ptrdiff_t item = 0; item < items; item++) work(shared, item);
}

#endif
