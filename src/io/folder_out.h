/* folder_out.h — a folder that grows beside its place and takes it as a whole at the end; the counterpart of
 * zb_file_out. Knows which files of an older checkpoint must not stay beside a new one. */
#ifndef ZB_FOLDER_OUT_H
#define ZB_FOLDER_OUT_H

#include "io/file.h"

typedef struct zb_folder_out {
    char *path; /* as given; a link is followed      */
    char *tmp;  /* write the files in here           */
    int merge;  /* `path` has files: these join them */
    void *dir;  /* tmp, kept open so that it can be emptied whatever happens */
} zb_folder_out;

/* E_IO if the folder has files in it, unless `force`. */
zamba_status zb_folder_out_open(zb_folder_out *f, const char *path, int force, zamba_error *err);

/* Take the place. Joining other files: those of the same names are replaced one by one, and first weights
 * (model*.safetensors, their index) and files of `owned` (names, NULL at the end) that the new folder does not have are
 * removed. */
zamba_status zb_folder_out_commit(zb_folder_out *f, const char *const *owned, zamba_error *err);

/* Leave nothing behind; safe after a commit and on a zeroed one. */
void zb_folder_out_discard(zb_folder_out *f);

#endif
