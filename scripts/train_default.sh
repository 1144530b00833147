#!/bin/sh
# train_default.sh — make the default model with this program alone: tokenizer, pretraining, annealing on better data,
# instructions. Hours on two cores; may be stopped at any time and goes on where it was when it is started again.
#
#   sh scripts/train_default.sh DATA [RUN] [STEP ...]
#
# DATA is the folder with pretrain-children, pretrain-storybooks, pretrain-onestop and sft (see models/README.md); RUN,
# the folder to work in (build/train). STEPs: tokenizer pretrain anneal sft export; without names: all. PRETRAIN_STEPS,
# ANNEAL_STEPS and SFT_EPOCHS change how long, ZAMBA the program.
set -eu
cd "$(dirname "$0")/.."

data=${1:?usage: train_default.sh DATA [RUN] [STEP ...]}
run=${2:-build/train}
[ $# -ge 2 ] && shift 2 || shift
steps=${*:-tokenizer pretrain anneal sft export}
zamba=${ZAMBA:-build/release/zamba}
pretrain_steps=${PRETRAIN_STEPS:-5000}
anneal_steps=${ANNEAL_STEPS:-1500}
sft_epochs=${SFT_EPOCHS:-1}
story="Once upon a time"

# The last whole checkpoint of a run.
last() {
    echo "$run/$1/$(cat "$run/$1/latest")"
}

# train NAME ARGUMENT...: begin, or go on.
train() {
    name=$1
    shift
    [ -f "$run/$name/latest" ] && set -- "$@" --resume
    "$zamba" train "$@" --bf16 -o "$run/$name"
}

[ -f "$run/data/talk.jsonl" ] || python3 scripts/train_default_data.py --data "$data" -o "$run/data"
for step in $steps; do
    case $step in
    tokenizer)
        [ -f "$run/tokenizer/tokenizer.json" ] || "$zamba" train-tokenizer "$run/data/books.txt" \
            "$run/data/stories.txt" "$run/data/news.txt" -o "$run/tokenizer" --vocab-size 4096 --chat
        ;;
    pretrain) # a constant rate: where it stops is free
        train pretrain pretrain --config models/default-config.json --tokenizer "$run/tokenizer" \
            --data "$run/data/books.txt" --valid "$run/data/valid.txt" --sequence-length 512 --batch-size 8 \
            --learning-rate 3e-3 --lr-scheduler constant --warmup-steps 200 --weight-decay 0.1 \
            --max-steps "$pretrain_steps" --save-steps 200 --eval-steps 500 \
            --eval-tokens 40000 --sample-prompt "$story" --sample-steps 500 --seed 1
        ;;
    anneal) # a rate that falls exponentially, on simple stories and news beside the books
        train anneal pretrain "$(last pretrain)" --phase anneal --data "$run/data/books.txt:80" \
            --data "$run/data/stories.txt:15" --data "$run/data/news.txt:5" --valid "$run/data/valid.txt" \
            --sequence-length 512 --batch-size 8 --learning-rate 3e-3 --min-learning-rate 3e-5 --warmup-steps 1 \
            --weight-decay 0.1 --max-steps "$anneal_steps" --save-steps 200 --eval-steps 250 --eval-tokens 40000 \
            --sample-prompt "$story" --sample-steps 250 --seed 2
        ;;
    sft)
        train sft sft "$(last anneal)" --data "$run/data/talk.jsonl" --valid "$run/data/talk-valid.jsonl" \
            --too-long cut --sequence-length 512 --batch-size 8 --learning-rate 6e-4 --lr-scheduler cosine \
            --warmup-steps 20 \
            --epochs "$sft_epochs" --save-steps 200 --eval-steps 200 --sample-prompt "Tell me a story." \
            --sample-prompt "Who are you?" --sample-steps 200 --seed 3
        ;;
    export) # both ends of a turn end an answer
        rm -rf "$run/model"
        "$zamba" convert "$(last sft)" "$run/model" --type bf16 --force
        printf '{\n  "bos_token_id": 1,\n  "eos_token_id": [2, 4095],\n  "pad_token_id": 0\n}\n' \
            >"$run/model/generation_config.json"
        ;;
    *)
        echo "train_default: no step '$step'" >&2
        exit 2
        ;;
    esac
done
