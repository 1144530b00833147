/* published.c — see published.h. */
#include "support/published.h"

const char zamba_7b[] =
    "{\"model_type\": \"zamba\", \"hidden_size\": 3712, \"num_hidden_layers\": 76, \"attn_layer_period\": 6,"
    " \"attn_layer_offset\": 4, \"num_attention_heads\": 16, \"num_key_value_heads\": 16, \"attention_head_dim\": 464,"
    " \"intermediate_size\": 14848, \"n_mamba_heads\": 2, \"mamba_d_state\": 16, \"mamba_dt_rank\": 232,"
    " \"mamba_d_conv\": 4, \"mamba_expand\": 2, \"vocab_size\": 32000}";

const char zamba2_1b[] =
    "{\"model_type\": \"zamba2\", \"hidden_size\": 2048, \"num_hidden_layers\": 38,"
    " \"hybrid_layer_ids\": [5, 11, 17, 23, 29, 35], \"num_mem_blocks\": 1, \"num_attention_heads\": 32,"
    " \"intermediate_size\": 8192, \"mamba_d_state\": 128, \"mamba_ngroups\": 1, \"mamba_headdim\": 64,"
    " \"n_mamba_heads\": 64, \"adapter_rank\": 128, \"use_shared_attention_adapter\": true, \"use_mem_rope\": true,"
    " \"vocab_size\": 32000}";

const char zamba2_3b[] =
    "{\"model_type\": \"zamba2\", \"hidden_size\": 2560, \"num_hidden_layers\": 54,"
    " \"hybrid_layer_ids\": [6, 12, 18, 24, 30, 36, 42, 47, 51], \"num_mem_blocks\": 2, \"num_attention_heads\": 32,"
    " \"intermediate_size\": 10240, \"mamba_d_state\": 64, \"mamba_headdim\": 64, \"n_mamba_heads\": 80,"
    " \"adapter_rank\": 128, \"vocab_size\": 32000}";

const char zamba2_7b[] = /* in the words of the 2024 fork */
    "{\"model_type\": \"zamba2\", \"hidden_size\": 3584, \"num_hidden_layers\": 81,"
    " \"hybrid_layer_ids\": [6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77], \"num_mem_blocks\": 2,"
    " \"num_attention_heads\": 32, \"num_key_value_heads\": 32, \"ffn_hidden_size\": 14336, \"state_size\": 64,"
    " \"conv_dimension\": 4, \"expansion_factor\": 2, \"mamba_headdim\": 64, \"mamba_ngroups\": 2, \"lora_rank\": 128,"
    " \"use_shared_block_lora\": true, \"use_mem_rope\": true, \"rope_theta\": 10000, \"vocab_size\": 32000}";
