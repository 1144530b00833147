/* features.h — sizes that the features and the controller share. */
#ifndef ZB_REPLAY_FEATURES_H
#define ZB_REPLAY_FEATURES_H

#include "replay/slp.h"

enum { ZB_REPLAY_BUTTONS = 8, ZB_REPLAY_STICK_CLASSES = 17, ZB_REPLAY_TRIGGER_CLASSES = 5 };

#endif
