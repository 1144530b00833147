/* slp_fields.h — numbers of a Slippi event from its bytes. */
#ifndef ZB_SLP_FIELDS_H
#define ZB_SLP_FIELDS_H

#include <stdint.h>

static inline uint16_t zb_slp_u16(const unsigned char *d)
{
    return (uint16_t)(d[0] << 8 | d[1]);
}

static inline uint32_t zb_slp_u32(const unsigned char *d)
{
    return (uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8 | d[3];
}

static inline int32_t zb_slp_i32(const unsigned char *d)
{
    return (int32_t)zb_slp_u32(d);
}

#endif
