/* state_store.c — saved states by id. */
#include "engine_impl.h"

static zamba_status missing(zamba_error *err)
{
    return sv_fail(err, ZAMBA_E_UNSUPPORTED, "saved states: not there yet");
}

zamba_status sv_state_export(sv_engine *e, const char *id, void **data, size_t *n_bytes, zamba_error *err)
{
    (void)e, (void)id;
    *data = NULL;
    *n_bytes = 0;
    return missing(err);
}

zamba_status sv_state_import(sv_engine *e, const void *data, size_t n_bytes, char id[40], zamba_error *err)
{
    (void)e, (void)data, (void)n_bytes;
    id[0] = '\0';
    return missing(err);
}

zamba_status sv_state_fork(sv_engine *e, const char *id, char new_id[40], zamba_error *err)
{
    (void)e, (void)id;
    new_id[0] = '\0';
    return missing(err);
}

zamba_status sv_state_drop(sv_engine *e, const char *id, zamba_error *err)
{
    (void)e, (void)id;
    return missing(err);
}

zamba_status sv_state_list(sv_engine *e, sv_state_info **list, size_t *n, zamba_error *err)
{
    (void)e;
    *list = NULL;
    *n = 0;
    return missing(err);
}
