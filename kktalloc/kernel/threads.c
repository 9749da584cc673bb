/* Work shared between threads that live for one call: nothing outlives it, so a fork finds nothing to break. */
#include "problem.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>

enum { MOST = 64 };

typedef struct {
    _Alignas(64) ptrdiff_t next;  /* threads count on cache lines of their own */
    ptrdiff_t end;
} Range;

typedef struct {
    void (*work)(void *, ptrdiff_t);
    void *shared;
    int threads;
    Range ranges[MOST];
} Team;

typedef struct {
    Team *team;
    int own;
} Member;

/* Each thread goes through a range of its own, then helps with the others: neighbours that meet new memory in one place
 * would each clear a page for it. */
static void *take_turns(void *argument)
{
    const Member *member = argument;
    Team *team = member->team;
    for (int i = 0; i < team->threads; i++) {
        Range *range = &team->ranges[(member->own + i) % team->threads];
        for (;;) {
            const ptrdiff_t item = __atomic_fetch_add(&range->next, 1, __ATOMIC_RELAXED);
            if (item >= range->end) break;
            team->work(team->shared, item);
        }
    }
    return NULL;
}

void in_parallel(void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items, int threads)
{
    Team team;
    Member members[MOST];
    pthread_t others[MOST];
    const ptrdiff_t wanted = threads < MOST ? threads : MOST, useful = wanted < items ? wanted : items;
    int started = 1;
    team.work = work;
    team.shared = shared;
    team.threads = useful > 1 ? (int)useful : 1;
    for (int i = 0; i < team.threads; i++) {
        team.ranges[i].next = items * i / team.threads;
        team.ranges[i].end = items * (i + 1) / team.threads;
        members[i] = (Member){&team, i};
    }
    while (started < team.threads && pthread_create(&others[started], NULL, take_turns, &members[started]) == 0) started++;
    take_turns(&members[0]);
    while (--started) pthread_join(others[started], NULL);
}

#else

void in_parallel(void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items, int threads)
{
    (void)threads;
    for (ptrdiff_t item = 0; item < items; item++) work(shared, item);
}

#endif
