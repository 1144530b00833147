/* model.h — the model handle: plan, weights, kernels, threads, pages, workspaces. Immutable once open, apart from the
 * pools, which lock themselves. */
#ifndef ZB_MODEL_H
#define ZB_MODEL_H

#include "core/pool.h"
#include "model/kv_pool.h"
#include "model/profile.h"
#include "model/weights.h"

typedef struct zb_workspace zb_workspace;

struct zamba_model {
    char *path;
    zb_plan plan;
    zb_weights weights;
    const zb_kernels *kernels;
    int bf16;      /* products with bf16 weights round activations to bf16     */
    int bytes8;    /* products with weights in blocks take activations in 8 bits */
    int recurrent; /* Mamba-2 goes token by token        */
    zb_kv_type kv_k, kv_v;
    int n_threads, n_threads_batch;
    float *inv_freq; /* [head_dim / 2] with rope */
    zb_pool *pool;
    zb_kv_pool pages;
    zamba_tokenizer *tokenizer;     /* or NULL */
    zamba_chat *chat;               /* or NULL */
    size_t n_batch;                 /* most rows computed together */
    pthread_mutex_t workspace_lock; /* also of the profile */
    zb_profile profile;
    zamba_imatrix *collector; /* NULL, or who adds up what products read (imatrix.h) */
    zb_workspace *workspaces; /* idle ones */
};

#endif
