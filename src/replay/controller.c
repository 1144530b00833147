/* controller.c — a controller's state as numbers that a model reads, and as classes that it learns. */
#include <math.h>

#include "replay/features.h"

static const int32_t button_bits[ZB_REPLAY_BUTTONS] = {0x100, 0x200, 0x400, 0x800, 0x10, 0x40, 0x20, 0x8};

/* NaN becomes 0. */
static float within(float x, float low, float high)
{
    return x >= low ? (x <= high ? x : high) : x < low ? low : 0;
}

static int32_t class_of(float share, int32_t steps)
{
    return (int32_t)(share * (float)steps + 0.5f);
}

int32_t zamba_replay_stick_class(float x)
{
    return class_of((within(x, -1, 1) + 1) / 2, ZB_REPLAY_STICK_CLASSES - 1);
}

int32_t zamba_replay_trigger_class(float x)
{
    return class_of(within(x, 0, 1), ZB_REPLAY_TRIGGER_CLASSES - 1);
}

float zamba_replay_stick_value(int32_t class_of_17)
{
    return 2 * (float)class_of_17 / (ZB_REPLAY_STICK_CLASSES - 1) - 1;
}

void zamba_replay_controller(const zamba_replay_pre *pre, float *numbers, float *target)
{
    const float axes[] = {pre->stick_x, pre->stick_y, pre->c_x, pre->c_y};
    const int32_t buttons = pre->buttons < 0 ? 0 : pre->buttons;
    for (int i = 0; i < ZB_REPLAY_BUTTONS; i++) {
        const float on = (buttons & button_bits[i]) != 0;
        if (numbers)
            numbers[i] = on;
        if (target)
            target[i] = on;
    }
    for (int i = 0; i < 4; i++) {
        if (numbers)
            numbers[ZB_REPLAY_BUTTONS + i] = within(axes[i], -1, 1);
        if (target)
            target[ZB_REPLAY_BUTTONS + i] = (float)zamba_replay_stick_class(axes[i]);
    }
    if (numbers)
        numbers[ZB_REPLAY_BUTTONS + 4] = within(pre->trigger, 0, 1);
    if (target)
        target[ZB_REPLAY_BUTTONS + 4] = (float)zamba_replay_trigger_class(pre->trigger);
}
