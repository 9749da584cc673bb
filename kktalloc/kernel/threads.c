/* A team of threads that lives for one call: nothing outlives it, so a fork finds nothing to break. */
#include "problem.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <stdlib.h>

enum { MOST = 64 };

typedef struct {
    _Alignas(64) ptrdiff_t next;  /* threads count on cache lines of their own */
    ptrdiff_t end;
} Range;

typedef struct {
    Team *team;
    int own;
    pthread_t thread;
} Member;

/* The lock guards all but `next`. A task is over when nobody is at work on it: a member that the system did not wake in time
 * finds none, and no one waits for it. */
struct Team {
    pthread_mutex_t lock;
    pthread_cond_t given, done;
    void (*work)(void *, ptrdiff_t);  /* NULL between tasks */
    void *shared;
    ptrdiff_t task;
    int members, busy, over;
    Range ranges[MOST];
    Member member[MOST];
};

/* Each goes through a range of its own, then helps with the others: neighbours that meet new memory in one place would each
 * clear a page for it. */
static void take_turns(Team *team, int own, void (*work)(void *, ptrdiff_t), void *shared)
{
    for (int i = 0; i < team->members; i++) {
        Range *range = &team->ranges[(own + i) % team->members];
        for (;;) {
            const ptrdiff_t item = __atomic_fetch_add(&range->next, 1, __ATOMIC_RELAXED);
            if (item >= range->end) break;
            work(shared, item);
        }
    }
}

static void *serve(void *argument)
{
    const Member *self = argument;
    Team *team = self->team;
    pthread_mutex_lock(&team->lock);
    for (ptrdiff_t last = 0; !team->over;) {
        if (!team->work || team->task == last) {
            pthread_cond_wait(&team->given, &team->lock);
            continue;
        }
        last = team->task;
        team->busy++;
        void (*work)(void *, ptrdiff_t) = team->work;
        void *shared = team->shared;
        pthread_mutex_unlock(&team->lock);
        take_turns(team, self->own, work, shared);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0) pthread_cond_signal(&team->done);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

Team *start_team(int threads, ptrdiff_t items)
{
    const int allowed = threads < MOST ? threads : MOST, wanted = items < allowed ? (int)items : allowed;
    Team *team = wanted > 1 ? aligned_alloc(64, sizeof *team) : NULL;
    if (!team) return NULL;
    memset(team, 0, sizeof *team);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->given, NULL);
    pthread_cond_init(&team->done, NULL);
    pthread_mutex_lock(&team->lock);
    for (team->members = 1; team->members < wanted; team->members++) {
        Member *next = &team->member[team->members];
        *next = (Member){team, team->members, 0};
        if (pthread_create(&next->thread, NULL, serve, next)) break;
    }
    pthread_mutex_unlock(&team->lock);
    return team;
}

void end_team(Team *team)
{
    if (!team) return;
    pthread_mutex_lock(&team->lock);
    team->over = 1;
    pthread_cond_broadcast(&team->given);
    pthread_mutex_unlock(&team->lock);
    for (int i = 1; i < team->members; i++) pthread_join(team->member[i].thread, NULL);
    pthread_cond_destroy(&team->done);
    pthread_cond_destroy(&team->given);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

void in_parallel(Team *team, void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items)
{
    if (!team || items <= 1) {
        for (ptrdiff_t item = 0; item < items; item++) work(shared, item);
        return;
    }
    pthread_mutex_lock(&team->lock);
    for (int i = 0; i < team->members; i++) {
        team->ranges[i].next = items * i / team->members;
        team->ranges[i].end = items * (i + 1) / team->members;
    }
    team->work = work;
    team->shared = shared;
    team->task++;
    pthread_cond_broadcast(&team->given);
    pthread_mutex_unlock(&team->lock);
    take_turns(team, 0, work, shared);
    pthread_mutex_lock(&team->lock);
    team->work = NULL;
    while (team->busy) pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

#else

Team *start_team(int threads, ptrdiff_t items)
{
    (void)threads, (void)items;
    return NULL;
}

void end_team(Team *team) { (void)team; }

void in_parallel(Team *team, void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items)
{
    (void)team;
    for (ptrdiff_t item = 0; item < items; item++) work(shared, item);
}

#endif
