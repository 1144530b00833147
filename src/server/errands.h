/* errands.h — one thread beside the engine's for what waits for a disk, so that no step does. */
#ifndef SV_ERRANDS_H
#define SV_ERRANDS_H

#include <stddef.h>

typedef struct sv_errands sv_errands;

/* NULL: no memory or no thread. */
sv_errands *sv_errands_open(void);
/* Does all that is left first. */
void sv_errands_close(sv_errands *x);
/* Zero if it is not taken: no memory. */
int sv_errands_add(sv_errands *x, void (*run)(void *arg), void *arg);
/* Not done yet. */
size_t sv_errands_left(sv_errands *x);
/* Until all are done. */
void sv_errands_wait(sv_errands *x);

#endif
