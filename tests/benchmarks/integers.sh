#!/usr/bin/env bash
# All that is claimed of integers, in four parts, as JSON below OUT; on a machine where nothing else runs.
#
#   bash tests/benchmarks/integers.sh timings OUT            # speed beside float, with and without VNNI; latency budget
#   bash tests/benchmarks/integers.sh agreement OUT          # TINY: 10,000 pictures at four policies, each way of computing
#   bash tests/benchmarks/integers.sh agreement-avx2 OUT     # the same as on a CPU without VNNI
#   bash tests/benchmarks/integers.sh photographs OUT        # PHOTOGRAPHS, WEIGHTS: EfficientNet-Lite0 exported
#
# TINY, PHOTOGRAPHS and WEIGHTS are variables: Tiny-ImageNet as folders, photographs of ImageNet as folders (train/ and
# val/ in both), and timm's tf_efficientnet_lite0 as safetensors. MODEL is an entry in place of the bundled ResNet-18.
# TRIAL=1 takes few pictures and rounds, to see it run.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=$1 out=$2 python=${PYTHON:-python} threads=${THREADS:-2} rounds=40 pictures=10000 photographs=300
model=${MODEL:-resnet18}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=passive
if [ -n "${TRIAL:-}" ]; then rounds=2 pictures=40 photographs=10; fi
mkdir -p "$out"

speed() { # NAME OPTIONS...: the table of one network
    "$python" tests/benchmarks/integers.py --rounds "$rounds" --threads "$threads" --output "$out/$1.json" "${@:2}"
}

agreement() { # NAME OPTIONS...: each way of computing beside the simulation
    "$python" tests/benchmarks/integer_agreement.py --data "$TINY/val" --count "$pictures" --threads "$threads" \
        --model "$model" --bitops 3G w4a4 w3a3 1.5G --output "$out/$1.json" "${@:2}"
}

case $part in
timings)
    speed resnet18 --model "$model"
    speed efficientnet_lite0 --architecture efficientnet_lite0 --batches 1
    ONEDNN_MAX_CPU_ISA=AVX2 speed resnet18-avx2 --model "$model" --no-vnni
    "$python" tests/benchmarks/latency_budget.py --model "$model" --rounds "$rounds" --threads "$threads" \
        --output "$out/latency.json"
    ;;
agreement) agreement agreement ;;
agreement-avx2) ONEDNN_MAX_CPU_ISA=AVX2 agreement agreement-avx2 --no-vnni ;;
photographs)
    "$python" tests/benchmarks/efficientnet_export.py --data "$PHOTOGRAPHS" --weights "$WEIGHTS" --threads "$threads" \
        --pictures "$photographs" --output "$out/efficientnet"
    ;;
*) echo "integers.sh: $part is not timings, agreement, agreement-avx2 or photographs" >&2; exit 2 ;;
esac
