/* schedule.h — the learning rate of every step, as a pure function of the options. */
#ifndef ZB_SCHEDULE_H
#define ZB_SCHEDULE_H

#include "core/status.h"
#include "zamba_train.h"

/* Refuse numbers that make no schedule. */
zamba_status zb_schedule_check(const zamba_train_options *o, zamba_error *err);

/* The rate of a step, counted from 0. Past total_steps it stays where it ended. */
double zb_learning_rate(const zamba_train_options *o, int64_t step);

#endif
