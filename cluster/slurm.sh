#!/usr/bin/env bash
# One labelling run on Slurm: a Ray cluster over the nodes of this job, for as long as the run takes.
#
#   sbatch --nodes=4 --gpus-per-node=1 cluster/slurm.sh \
#     INPUT OUTPUT --assets DIR [more options of jobs.label]
#
# INPUT, OUTPUT and DIR lie on a file system that all nodes see, or on S3. Submit from the
# repository's root. TDDFA3_VENV names the virtual environment (default: .venv there).
#
# Shortly before the time limit the run is told to stop and the job queues itself again, up to
# TDDFA3_REQUEUES times (default 20); what is committed is not done again. Its exit code is that of
# jobs.label.
#SBATCH --job-name=tddfa3
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

set -euo pipefail

if (( $# < 2 )); then
  echo "usage: sbatch cluster/slurm.sh INPUT... OUTPUT --assets DIR [options of jobs.label]" >&2
  exit 2
fi
if [[ -z "${SLURM_JOB_ID:-}" ]]; then
  echo "slurm.sh runs inside a Slurm job: give it to sbatch" >&2
  exit 2
fi

cd "${SLURM_SUBMIT_DIR:-.}"
venv="${TDDFA3_VENV:-.venv}"
if [[ ! -f "${venv}/bin/activate" ]]; then
  echo "no virtual environment in ${venv}: set TDDFA3_VENV" >&2
  exit 2
fi
# shellcheck source=/dev/null
. "${venv}/bin/activate"

# Everybody on the node can reach the ports below: only processes with this token are answered. It
# passes from here to the job's steps through their environment, never through a command line.
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# Each thread of an actor would otherwise keep a pool of freed memory to itself.
export MALLOC_ARENA_MAX=2

# Ports and a folder of this job's own: another Ray may run on the same node. 20000 to 31999 lies
# below the ports that systems hand out by themselves.
first_port=$(( 20000 + SLURM_JOB_ID % 1200 * 10 ))
gcs_port=${first_port}
dashboard_port=$(( first_port + 1 ))
client_port=$(( first_port + 2 ))
agent_port=$(( first_port + 3 ))
# Short, because the names of Unix sockets below it may have at most 107 bytes.
ray_dir="/tmp/ray-${SLURM_JOB_ID}"
# What Ray itself has to say goes beside the job's output, not into it.
ray_log="slurm-${SLURM_JOB_ID}-ray.log"
cpus=${SLURM_CPUS_PER_TASK:-1}

mapfile -t nodes < <(scontrol show hostnames "${SLURM_JOB_NODELIST}")
head_node=${nodes[0]}
# The first address, as the other nodes see it.
head_ip=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${head_node}" hostname --ip-address)
head_ip=${head_ip%% *}
address="${head_ip}:${gcs_port}"

steps=()
driver=
requeue=false

# shellcheck disable=SC2329  # the trap below calls it
stop_started() {
  # Only what this script started: the job's own steps, by their process ids.
  local pid
  for pid in "${steps[@]}"; do
    kill -TERM "${pid}" 2> /dev/null || true
  done
  wait "${steps[@]}" 2> /dev/null || true
}
trap stop_started EXIT

# shellcheck disable=SC2329  # the traps below call it
stop_driver() {
  if [[ -n "${driver}" ]]; then
    kill -TERM "${driver}" 2> /dev/null || true
  else
    exit 4
  fi
}
trap stop_driver TERM INT
trap 'requeue=true; stop_driver' USR1

echo "Ray ${address} on ${#nodes[@]} node(s): ${nodes[*]}"
# A step does not take over --cpus-per-task from the job (Slurm 22.05 and newer).
srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="${cpus}" --nodelist="${head_node}" \
  --output="${ray_log}" --open-mode=append \
  ray start --head --block --node-ip-address="${head_ip}" --port="${gcs_port}" \
  --dashboard-host=127.0.0.1 --dashboard-port="${dashboard_port}" \
  --ray-client-server-port="${client_port}" --dashboard-agent-listen-port="${agent_port}" \
  --temp-dir="${ray_dir}" --num-cpus="${cpus}" --disable-usage-stats &
steps+=($!)

for (( try = 1; ; try++ )); do
  if ray health-check --address "${address}" > /dev/null 2>&1; then
    break
  fi
  if (( try == 60 )) || ! kill -0 "${steps[0]}" 2> /dev/null; then
    echo "Ray's head did not start on ${head_node}; see ${ray_log}, and ${ray_dir} there" >&2
    exit 4
  fi
  sleep 2
done

if (( ${#nodes[@]} > 1 )); then
  srun --overlap --nodes=$(( ${#nodes[@]} - 1 )) --ntasks=$(( ${#nodes[@]} - 1 )) \
    --cpus-per-task="${cpus}" --exclude="${head_node}" \
    --output="${ray_log}" --open-mode=append \
    ray start --block --address="${address}" --dashboard-agent-listen-port="${agent_port}" \
    --temp-dir="${ray_dir}" --num-cpus="${cpus}" --disable-usage-stats &
  steps+=($!)
fi

# The pool starts with what is there and grows as nodes join: no need to wait for all of them.
python -m jobs.label --ray-address "${address}" "$@" &
driver=$!
# A trapped signal interrupts `wait`; the driver's own exit code comes with the last one.
code=0
while true; do
  wait "${driver}" && code=0 || code=$?
  kill -0 "${driver}" 2> /dev/null || break
done

if [[ "${requeue}" == true ]] && (( code == 4 )) \
  && (( ${SLURM_RESTART_COUNT:-0} < ${TDDFA3_REQUEUES:-20} )); then
  echo "time is nearly up: queued again, to continue where this stopped"
  scontrol requeue "${SLURM_JOB_ID}"
fi
exit "${code}"
