/* page_files.h — the built page in the program: files by their paths, made when the program is built
 * (packaging/page_files.cmake). */
#ifndef SV_PAGE_FILES_H
#define SV_PAGE_FILES_H

#include <stddef.h>

typedef struct sv_page_file {
    const char *path; /* "/index.html"                     */
    const char *sum;  /* of its content, in hex            */
    const unsigned char *data;
    size_t stored, size; /* bytes of data, and of the file  */
    int packed;          /* data is gzip                    */
} sv_page_file;

extern const sv_page_file sv_page_files[];
extern const size_t sv_n_page_files;

/* Unpack a gzip member that has `size` bytes. 0: it is damaged. */
int sv_gunzip(unsigned char *out, size_t size, const unsigned char *data, size_t n);

#endif
