/* published.h — config.json of the published models, as far as shapes follow from it. */
#ifndef ZB_PUBLISHED_H
#define ZB_PUBLISHED_H

extern const char zamba_7b[], zamba2_1b[], zamba2_3b[], zamba2_7b[];

#endif
