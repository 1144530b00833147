/* zamba_backbone.h — the frame model of real-time agents: numbers of one frame in, one vector out, frame by frame in a
 * state of fixed size, or whole sequences at once; the same function either way. Conventions as in zamba.h: statuses
 * and errors, option structs that begin with their size, no printing.
 *
 * Handles: `zamba_backbone` (options and weights; several threads may read it at once), `zamba_backbone_stream` (the
 * timelines of some agents), `zamba_backbone_window` (the last frames, encoded anew at each), and
 * `zamba_backbone_trainer`. The function is written out in docs/BACKBONE.md.
 */
#ifndef ZAMBA_BACKBONE_H
#define ZAMBA_BACKBONE_H

#include "zamba.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Options -------------------------------------------------------------------------------------------------- */

/** What a Mamba layer computes. MAMBA: the selective state space. MAMBA_FIXED: Edifice.SSM.Mamba, A not learned.
 *  GATED: what Edifice.SSM.Zamba 0.2.0 really runs; a frame's weight depends on the length of its sequence, so there
 *  is no stream of it. GATED_CAUSAL: the same with a running mean in that place. */
typedef enum zamba_backbone_block {
    ZAMBA_BACKBONE_MAMBA,
    ZAMBA_BACKBONE_MAMBA_FIXED,
    ZAMBA_BACKBONE_GATED_CAUSAL,
    ZAMBA_BACKBONE_GATED
} zamba_backbone_block;

/** SHARED: one feed-forward, behind the shared attention and shared as it is. EVERY (Nexus): one behind each layer, and
 *  attention stands in the place of the Mamba block. */
typedef enum zamba_backbone_ffn { ZAMBA_BACKBONE_FFN_SHARED, ZAMBA_BACKBONE_FFN_EVERY } zamba_backbone_ffn;

typedef enum zamba_backbone_positions { ZAMBA_BACKBONE_POS_SIN, ZAMBA_BACKBONE_POS_NONE } zamba_backbone_positions;

/** A learned vector in the place of a number of the frame that is an id (an action, a character). */
typedef struct zamba_backbone_embedding {
    const char *name; /* letters, digits, _                                                                       */
    int32_t ids;      /* ids are 0 .. ids - 1                                                                     */
    int32_t width;    /* numbers that an id becomes                                                               */
    int32_t uses;     /* numbers of a frame that are such ids; they share the table                               */
} zamba_backbone_embedding;

typedef enum zamba_backbone_head_kind {
    ZAMBA_BACKBONE_HEAD_CLASSES, /* one of n: softmax, cross entropy                                             */
    ZAMBA_BACKBONE_HEAD_BINARY,  /* n that are each on or off: sigmoid, binary cross entropy, mean over the n    */
    ZAMBA_BACKBONE_HEAD_VALUES   /* n numbers: mean of squared differences                                       */
} zamba_backbone_head_kind;

/** Logits (numbers) made from the output vector: out(relu(hidden(y))), or out(y). */
typedef struct zamba_backbone_head {
    const char *name; /* letters, digits, _                                                                       */
    zamba_backbone_head_kind kind;
    int32_t n;      /* outputs                                                                                  */
    int32_t hidden; /* width of the layer in between; 0: none                                                   */
    double weight;  /* of its loss in the sum                                                                   */
} zamba_backbone_head;

/** What the model is; this is what is saved. */
typedef struct zamba_backbone_options {
    size_t size;             /* sizeof this struct                                                             */
    int32_t embed_dim;       /* E, numbers per frame (ids counted with their vectors' width); no default         */
    int32_t hidden_size;     /* H, width of the model and of its output; 256                                   */
    int32_t num_layers;      /* 6                                                                              */
    int32_t attention_every; /* shared attention at layers every, 2 every, ... (from 1); 3, nexus 6            */
    int32_t state_size;      /* N, 16                                                                          */
    int32_t expand_factor;   /* I = expand_factor H; 2                                                         */
    int32_t conv_size;       /* K, 4                                                                           */
    int32_t num_heads;       /* 4, nexus 8                                                                     */
    int32_t head_dim;        /* 64; A = num_heads head_dim need not be H. 0: hidden_size / num_heads (nexus)   */
    int32_t window_size;     /* W: attention sees the last W frames, itself included; 60                       */
    int32_t seq_len;         /* documented length of a whole-sequence call; any length works. 0: window_size   */
    double dropout;          /* training only; 0.1, nexus 0                                                    */
    zamba_backbone_block block;
    zamba_backbone_ffn ffn;
    zamba_backbone_positions pos_encoding;
    int32_t qk_norm;       /* 1, nexus 0                                                                         */
    int32_t proj_bias;     /* biases of in_proj, bc_proj, dt_down, out_proj, qkv; 1, nexus 0                      */
    int32_t dt_rank;       /* 0: max(H / 16, 1) (gated forms: max(H / N, 1)); -1: one full I x I map (nexus)     */
    int32_t attn_out_proj; /* nonzero: a projection behind attention even if A is H; 0, nexus 1                  */
    const zamba_backbone_embedding *embeddings; /* the last numbers of a frame are ids; see zamba_backbone_frame_size */
    size_t n_embeddings;
    const zamba_backbone_head *heads; /* made from the output by zamba_backbone_logits(); trained by the trainer */
    size_t n_heads;
} zamba_backbone_options;

/** The defaults above, which are also Edifice's recommended_defaults; embed_dim is 0 and has to be set. */
ZAMBA_API zamba_backbone_options zamba_backbone_defaults(void);
ZAMBA_API zamba_backbone_options zamba_backbone_recommended_defaults(void);

/** "edifice" (the defaults), "exphil" (the same with the 287 numbers of its frames), "nexus".
 *  Errors   E_NOT_FOUND: no such preset; *out is untouched. */
ZAMBA_API zamba_status zamba_backbone_preset(zamba_backbone_options *out, const char *name, zamba_error *err);

/** Set one option by its name as text: "hidden_size", "128"; "block", "gated"; "qk_norm", "true". Takes - for _, and
 * the other spellings of the documents: attention_interval (attention_every), embed_size (embed_dim). Not embeddings,
 *  heads.
 *  Errors   E_NOT_FOUND: no option of that name; E_ARG: not such a value. */
ZAMBA_API zamba_status zamba_backbone_option_set(zamba_backbone_options *o, const char *name, const char *value,
                                                 zamba_error *err);

/** The i-th option's name, NULL at the end; its value as text into buf (at least 32 bytes). */
ZAMBA_API const char *zamba_backbone_option_name(size_t i);
ZAMBA_API zamba_status zamba_backbone_option_get(const zamba_backbone_options *o, const char *name, char *buf, size_t n,
                                                 zamba_error *err);

/** Whether the options make a model: E_ARG says which do not, or contradict each other. Every call below checks. */
ZAMBA_API zamba_status zamba_backbone_check(const zamba_backbone_options *o, zamba_error *err);

/* ---- What the options say ------------------------------------------------------------------------------------- */

/** Parameters by the documented formula, which is approximate (no biases, no norms), and those that there are.
 *  Embeddings and heads are counted by the second only. */
ZAMBA_API zamba_status zamba_backbone_param_count(const zamba_backbone_options *o, int64_t *count, zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_exact_count(const zamba_backbone_options *o, int64_t *count, zamba_error *err);

typedef enum zamba_backbone_layer {
    ZAMBA_BACKBONE_LAYER_MAMBA,
    ZAMBA_BACKBONE_LAYER_MAMBA_ATTENTION, /* Mamba, then the shared block                                        */
    ZAMBA_BACKBONE_LAYER_ATTENTION        /* ffn = every: the shared attention in the place of Mamba             */
} zamba_backbone_layer;

/** layers[0 .. num_layers - 1]; n is the room there. */
ZAMBA_API zamba_status zamba_backbone_layer_pattern(const zamba_backbone_options *o, zamba_backbone_layer *layers,
                                                    size_t n, zamba_error *err);
ZAMBA_API const char *zamba_backbone_layer_name(zamba_backbone_layer layer); /* "mamba", "mamba_attention", ...     */

/** Against a Jamba of the same shape, with an attention block of its own at each place; by the documented formula. */
typedef struct zamba_backbone_comparison {
    size_t size;
    int64_t zamba_params, jamba_params, savings;
    double savings_percent; /* of jamba_params, rounded to one decimal                                           */
    int32_t clamped;        /* nonzero: the formula's savings were negative (no attention at all) and are 0 here */
} zamba_backbone_comparison;
ZAMBA_API zamba_status zamba_backbone_compare_to_jamba(const zamba_backbone_options *o, zamba_backbone_comparison *out,
                                                       zamba_error *err);

ZAMBA_API int32_t zamba_backbone_output_size(const zamba_backbone_options *o); /* hidden_size                      */
/** Numbers of a frame as it is given: embed_dim, each id counted as one number in the place of its vector. */
ZAMBA_API int32_t zamba_backbone_frame_size(const zamba_backbone_options *o);
/** Sum of the heads' outputs; 0: no heads. */
ZAMBA_API int32_t zamba_backbone_logit_size(const zamba_backbone_options *o);
/** Bytes of what one timeline remembers, f32, without its counter. 0: the form cannot stream. */
ZAMBA_API size_t zamba_backbone_state_bytes(const zamba_backbone_options *o);

/* ---- The model ------------------------------------------------------------------------------------------------ */

/** How the products' weights are held for step, forward and window. BF16: rounded, activations stay f32. INT8: bytes
 *  with a scale for each 32, activations rounded to bytes with a scale for each 64; the small products that steer the
 *  state (bc_proj, dt_*) stay bf16. Training, save and load always use the f32 weights, which are kept beside. */
typedef enum zamba_backbone_weights {
    ZAMBA_BACKBONE_F32,
    ZAMBA_BACKBONE_BF16,
    ZAMBA_BACKBONE_INT8
} zamba_backbone_weights;

/** What becomes of a frame with a NaN or an infinity in it. REFUSE: E_ARG, nothing has moved. PASS: it goes through,
 * and the state is what it then is. */
typedef enum zamba_backbone_non_finite {
    ZAMBA_BACKBONE_NON_FINITE_REFUSE,
    ZAMBA_BACKBONE_NON_FINITE_PASS
} zamba_backbone_non_finite;

/** How the model is run here; not saved. */
typedef struct zamba_backbone_run {
    size_t size;
    zamba_backbone_weights weights;
    zamba_backbone_non_finite non_finite;
    int32_t n_threads; /* of forward, window and training, the caller included; 0: the cores this process may use. 1.
                        * step is always the caller alone                                                         */
} zamba_backbone_run;

ZAMBA_API zamba_backbone_run zamba_backbone_run_defaults(void);

typedef struct zamba_backbone zamba_backbone;

/** A new model with random weights: matrices Glorot-uniform, biases 0, norms 1 and 0, A = -1 .. -N, D 1, convolutions
 *  uniform within 1/sqrt(K), dt log-uniform in [0.001, 0.1]. The same seed gives the same weights on every machine.
 *  run      NULL: the defaults. */
ZAMBA_API zamba_status zamba_backbone_create(zamba_backbone **out, const zamba_backbone_options *o,
                                             const zamba_backbone_run *run, uint64_t seed, zamba_error *err);

/** Load what zamba_backbone_save wrote: a folder of config.json and model.safetensors.
 *  Errors   E_IO, E_NOT_FOUND, E_FORMAT; E_MISMATCH: weights that config.json does not have, of another shape, or that
 *           are missing. */
ZAMBA_API zamba_status zamba_backbone_load(zamba_backbone **out, const char *folder, const zamba_backbone_run *run,
                                           zamba_error *err);

/** Write the folder as a whole (config.json with the options, model.safetensors in f32). E_IO if it has files in it and
 *  `force` is 0. */
ZAMBA_API zamba_status zamba_backbone_save(const zamba_backbone *b, const char *folder, int32_t force,
                                           zamba_error *err);

/** Take all weights from one .safetensors file, under our names or Edifice's (docs/BACKBONE.md; kernels stored [in,
 * out] are turned). No thread may be using b. Embeddings and heads may be missing, then they stay. Errors   as load; b
 * is unchanged. */
ZAMBA_API zamba_status zamba_backbone_load_weights(zamba_backbone *b, const char *path, zamba_error *err);

/** Streams, windows and trainers of it must have been closed before. NULL is fine. */
ZAMBA_API void zamba_backbone_close(zamba_backbone *b);

/** Its options (pointers in them live as long as b), how it runs, and bytes held, all copies of weights included. */
ZAMBA_API const zamba_backbone_options *zamba_backbone_get_options(const zamba_backbone *b);
ZAMBA_API const zamba_backbone_run *zamba_backbone_get_run(const zamba_backbone *b);
ZAMBA_API size_t zamba_backbone_bytes(const zamba_backbone *b);

/** A parameter tensor. */
typedef struct zamba_backbone_parameter {
    size_t size;
    const char *name;    /* "layers.0.in_proj.weight"                                                            */
    const char *edifice; /* "mamba_layer_1_in_proj.kernel", "" if Edifice has none                                */
    int32_t n_dims;
    int64_t shape[2]; /* of weights [out, in]                                                                      */
    int64_t count;
    const float *data;
} zamba_backbone_parameter;

/** The i-th of all parameters, in the file's order. E_NOT_FOUND past the end. out->size must be set. */
ZAMBA_API zamba_status zamba_backbone_parameter_at(const zamba_backbone *b, size_t i, zamba_backbone_parameter *out,
                                                   zamba_error *err);
ZAMBA_API size_t zamba_backbone_parameters(const zamba_backbone *b); /* how many tensors                           */

/** Replace one tensor's numbers (n must be its count). No thread may be using b. */
ZAMBA_API zamba_status zamba_backbone_parameter_set(zamba_backbone *b, const char *name, const float *data, size_t n,
                                                    zamba_error *err);

/* ---- Whole sequences ------------------------------------------------------------------------------------------ */

typedef enum zamba_backbone_which { ZAMBA_BACKBONE_LAST, ZAMBA_BACKBONE_ALL } zamba_backbone_which;

/** frames f32 [batch, seq, frame_size] -> out f32 [batch, hidden_size] (LAST) or [batch, seq, hidden_size] (ALL).
 *  seq may be any length from 1; each sequence begins with an empty state.
 *  State    position t of ALL is to the bit what step gives at frame t; so it does not depend on batch, seq (but with
 *           block = gated) or threads.
 *  Memory   allocates while it runs. Threads: any number of callers.
 *  Errors   E_ARG: sizes, a frame that is not finite, an id outside its table. out is undefined then. */
ZAMBA_API zamba_status zamba_backbone_forward(const zamba_backbone *b, const float *frames, size_t batch, size_t seq,
                                              zamba_backbone_which which, float *out, zamba_error *err);

/** The output vectors y f32 [n, hidden_size] -> logits f32 [n, logit_size], head after head.
 *  Allocates nothing.  Errors   E_UNSUPPORTED: no heads. */
ZAMBA_API zamba_status zamba_backbone_logits(const zamba_backbone *b, const float *y, size_t n, float *logits,
                                             zamba_error *err);

/** The pieces as Edifice has them, x f32 [batch, seq, hidden_size] -> y likewise (y may be x).
 *  build_mamba_layer         x + block(norm(x)) of layer `layer` (from 0).
 *  apply_shared_attention    one application of the shared block at layer `layer`, residuals included: attention, and
 *                            with ffn = shared its feed-forward; with ffn = every, with the norm of that layer.
 *  Errors   E_ARG: the layer is none of that kind. */
ZAMBA_API zamba_status zamba_backbone_build_mamba_layer(const zamba_backbone *b, int32_t layer, const float *x,
                                                        size_t batch, size_t seq, float *y, zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_apply_shared_attention(const zamba_backbone *b, int32_t layer, const float *x,
                                                             size_t batch, size_t seq, float *y, zamba_error *err);

/* ---- Frame by frame ------------------------------------------------------------------------------------------- */

/** The timelines of `batch` agents that are advanced together; mostly 1. Has all memory that a step needs. One thread
 *  at a time; different streams of one backbone on different threads need no lock. */
typedef struct zamba_backbone_stream zamba_backbone_stream;

/** Bytes of a stream; 0: the form cannot stream, or batch is 0. Constant over its life. */
ZAMBA_API size_t zamba_backbone_stream_bytes(const zamba_backbone *b, size_t batch);

/** Open a stream at frame 0, in memory of its own; or in `memory` of the caller, `bytes` long (at least stream_bytes),
 *  aligned to 64, which stays the caller's and must outlive the stream.
 *  Errors   E_UNSUPPORTED: the form cannot stream, and why; E_ARG; E_MEMORY. */
ZAMBA_API zamba_status zamba_backbone_stream_open(zamba_backbone_stream **out, const zamba_backbone *b, size_t batch,
                                                  zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_stream_place(zamba_backbone_stream **out, const zamba_backbone *b, size_t batch,
                                                   void *memory, size_t bytes, zamba_error *err);
ZAMBA_API void zamba_backbone_stream_close(zamba_backbone_stream *s); /* NULL is fine                              */

/** One frame for each timeline: frames f32 [batch, frame_size] -> out f32 [batch, hidden_size], what forward gives at
 *  the last of all frames since the reset. Takes no memory, no lock, makes no system call.
 *  Errors   E_ARG: a frame that is not finite (see zamba_backbone_non_finite), an id outside its table: nothing has
 *           moved. E_FORMAT: the output is not finite though the frames are (weights or numbers beyond f32): that
 *           timeline answers so until it is reset or restored. */
ZAMBA_API zamba_status zamba_backbone_step(zamba_backbone_stream *s, const float *frames, float *out, zamba_error *err);

/** Read what the next step will read (weights, tables, states, buffers), so that it finds them in the caches. While a
 *  game sleeps or computes, others have the caches, and a step then takes about twice as long: a caller that knows when
 *  its next frame is due calls this a millisecond or less before. Takes a tenth to half of a millisecond with the
 *  default shape, changes nothing, takes no memory, no lock, makes no system call. Pointless when steps follow each
 *  other at once, and for models and batches greater than the caches. */
ZAMBA_API void zamba_backbone_warm(const zamba_backbone_stream *s);

/** n_frames frames of one timeline at once, [n_frames, frame_size] -> out [n_frames, hidden_size], or NULL: only the
 *  state. The same bits as that many steps, in less time. Allocates while it runs. */
ZAMBA_API zamba_status zamba_backbone_feed(zamba_backbone_stream *s, size_t timeline, const float *frames,
                                           size_t n_frames, float *out, zamba_error *err);

/** Every timeline, or one of them; ALL_TIMELINES stands for each. */
#define ZAMBA_BACKBONE_ALL_TIMELINES ((size_t)-1)

/** Back to frame 0. */
ZAMBA_API zamba_status zamba_backbone_reset(zamba_backbone_stream *s, size_t timeline, zamba_error *err);
/** Frames since the reset. */
ZAMBA_API uint64_t zamba_backbone_frame(const zamba_backbone_stream *s, size_t timeline);

/** A timeline as bytes, and back: what follows a restore is to the bit what followed the snapshot, in this stream or in
 *  another of the same options (and, for the same bits, weights). `to` has snapshot_bytes.
 *  Errors   E_ARG: sizes; E_FORMAT: no snapshot, or numbers in it that are not finite (unless they pass); E_MISMATCH:
 *           of other options. Nothing has changed then. */
ZAMBA_API size_t zamba_backbone_snapshot_bytes(const zamba_backbone *b);
ZAMBA_API zamba_status zamba_backbone_snapshot(const zamba_backbone_stream *s, size_t timeline, void *to, size_t bytes,
                                               zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_restore(zamba_backbone_stream *s, size_t timeline, const void *from, size_t bytes,
                                              zamba_error *err);

/* ---- The last frames, encoded anew ---------------------------------------------------------------------------- */

/** What agents without a state do: keep the last n_frames frames and compute forward over them at each new frame. It is
 *  another function than step: it forgets everything older, and its positions begin anew. Works with every form. */
typedef struct zamba_backbone_window zamba_backbone_window;

/** n_frames 0: seq_len. Has all memory that a push needs. */
ZAMBA_API zamba_status zamba_backbone_window_open(zamba_backbone_window **out, const zamba_backbone *b, size_t n_frames,
                                                  zamba_error *err);
ZAMBA_API void zamba_backbone_window_close(zamba_backbone_window *w);
ZAMBA_API size_t zamba_backbone_window_bytes(const zamba_backbone_window *w);

/** frame f32 [frame_size] -> out f32 [hidden_size]: forward over the last n_frames (or as many as there were). Takes no
 *  memory. Errors   as step. */
ZAMBA_API zamba_status zamba_backbone_window_push(zamba_backbone_window *w, const float *frame, float *out,
                                                  zamba_error *err);
ZAMBA_API void zamba_backbone_window_reset(zamba_backbone_window *w);

/* ---- Training ------------------------------------------------------------------------------------------------- */

/** The heads of a game controller, 81 logits: buttons (8, binary), main_x, main_y, c_x, c_y (17 classes each), trigger
 *  (5 classes); one hidden layer each of 64, trigger 32. Static. */
#define ZAMBA_BACKBONE_CONTROLLER_HEADS 6
ZAMBA_API const zamba_backbone_head *zamba_backbone_controller_heads(void);

typedef enum zamba_backbone_loss {
    ZAMBA_BACKBONE_LOSS_SQUARES, /* mean over rows and channels of (output - target)^2                           */
    ZAMBA_BACKBONE_LOSS_HEADS    /* sum over heads of weight times the mean over rows of the head's loss         */
} zamba_backbone_loss;

typedef struct zamba_backbone_train_options {
    size_t size;
    zamba_backbone_loss loss;
    zamba_backbone_which rows; /* LAST: the loss looks at the last position of each sequence; ALL: at every one  */
    int32_t n_threads;         /* 0: the cores this process may use                                              */
    double learning_rate;      /* 1e-3                                                                           */
    double beta1, beta2, epsilon, weight_decay; /* AdamW: 0.9, 0.999, 1e-8, 0 (matrices only)                      */
    double max_grad_norm; /* of all gradients together; 1; 0: not limited                                   */
    int64_t warmup_steps; /* the rate rises linearly from 0; 0                                              */
    int64_t total_steps;  /* the rate falls as a cosine to min_learning_rate at this step; 0: it stays        */
    double min_learning_rate;
    double dropout; /* negative: as the model's options say                                           */
    uint64_t seed;  /* of what dropout leaves out                                                     */
} zamba_backbone_train_options;

ZAMBA_API zamba_backbone_train_options zamba_backbone_train_defaults(void);

typedef struct zamba_backbone_trainer zamba_backbone_trainer;

/** Train b in place; b must outlive the trainer, and no stream of it may step meanwhile (its state is of older
 * weights). Memory   gradients and two moments of each parameter, activations of the largest batch so far. */
ZAMBA_API zamba_status zamba_backbone_trainer_open(zamba_backbone_trainer **out, zamba_backbone *b,
                                                   const zamba_backbone_train_options *options, zamba_error *err);
ZAMBA_API void zamba_backbone_trainer_close(zamba_backbone_trainer *t);

/** What a step learns from. */
typedef struct zamba_backbone_batch {
    size_t size;
    const float *frames; /* [batch, seq, frame_size], each sequence begins with an empty state                  */
    size_t batch, seq;
    /* Rows are those of `rows`: [batch] or [batch, seq]. */
    const float *targets; /* LOSS_SQUARES: [rows, hidden_size]. LOSS_HEADS: [rows, n of all heads but CLASSES
                           * heads, which take one number, the class; NaN (or a class of -1): not learned]: the
                           * widths in the order of the heads, see zamba_backbone_target_size                     */
    const float
        *row_weights; /* NULL, or [rows]: of each row's loss; 0: not looked at. Means are divided by their sum */
} zamba_backbone_batch;

/** Numbers of a target row: hidden_size, or of each head n (CLASSES: 1). */
ZAMBA_API int32_t zamba_backbone_target_size(const zamba_backbone_options *o, zamba_backbone_loss loss);

typedef struct zamba_backbone_metrics {
    size_t size;
    int64_t step; /* from 1; evaluate: as it stands                                                             */
    double loss;  /* before the step                                                                            */
    double grad_norm, learning_rate;
    int32_t skipped;       /* nonzero: loss or gradient was no number, and nothing was changed                  */
    double head_loss[16];  /* of each head, not weighted                                                        */
    double head_right[16]; /* CLASSES: share of rows whose greatest logit is the class; BINARY: share of bits   */
} zamba_backbone_metrics;

/** Forward, backward, clipping, AdamW. The same batches give the same bits whatever the number of threads.
 *  Errors   E_ARG: sizes, frames or targets that are not finite, classes outside; nothing has changed. */
ZAMBA_API zamba_status zamba_backbone_trainer_step(zamba_backbone_trainer *t, const zamba_backbone_batch *batch,
                                                   zamba_backbone_metrics *metrics, zamba_error *err);

/** The loss alone, without dropout; logits [rows, logit_size] or NULL. */
ZAMBA_API zamba_status zamba_backbone_trainer_evaluate(zamba_backbone_trainer *t, const zamba_backbone_batch *batch,
                                                       zamba_backbone_metrics *metrics, float *logits,
                                                       zamba_error *err);

/** The gradients of one batch's loss (without dropout, nothing clipped, no update); then by name: a parameter's, or
 *  "frames" [batch, seq, embed_dim]. *data is the trainer's, valid until its next call. */
ZAMBA_API zamba_status zamba_backbone_trainer_backward(zamba_backbone_trainer *t, const zamba_backbone_batch *batch,
                                                       double *loss, zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_trainer_gradient(const zamba_backbone_trainer *t, const char *name,
                                                       const float **data, size_t *n, zamba_error *err);

ZAMBA_API int64_t zamba_backbone_trainer_steps(const zamba_backbone_trainer *t);
ZAMBA_API size_t zamba_backbone_trainer_bytes(const zamba_backbone_trainer *t);

/** Save the model's folder with trainer_state.json and optimizer.safetensors beside; and go on from it: resume takes
 * the weights too, and what follows is to the bit what would have followed.
 *  Errors   resume: E_NOT_FOUND, E_FORMAT; E_MISMATCH: of another model (options but dropout and seq_len, tensors), or
 *           no state of this trainer. Nothing has changed then. */
ZAMBA_API zamba_status zamba_backbone_trainer_save(zamba_backbone_trainer *t, const char *folder, zamba_error *err);
ZAMBA_API zamba_status zamba_backbone_trainer_resume(zamba_backbone_trainer *t, const char *folder, zamba_error *err);

/** The same as one of a run's checkpoints: RUN/checkpoint-000123, written beside, synced and renamed, so that it is
 *  whole or not there; RUN/latest names it (zamba_train_latest finds it), and of those up to it the last `keep` stay
 *  (0: all). `data`, a JSON object or NULL, is kept with it: where the caller's data stands.
 *  path     NULL, or where its name goes, released with zamba_free(). */
ZAMBA_API zamba_status zamba_backbone_trainer_checkpoint(zamba_backbone_trainer *t, const char *run, int32_t keep,
                                                         const char *data, char **path, zamba_error *err);
/** `data` of the checkpoint that the trainer went on from, valid as long as the trainer; NULL: none. */
ZAMBA_API const char *zamba_backbone_trainer_data(const zamba_backbone_trainer *t);

#ifdef __cplusplus
}
#endif

#endif
