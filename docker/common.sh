# Settings that docker/up and docker/down share; sourced by them.
# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the scripts that source this file

set -euo pipefail
umask 077

self=docker/$(basename "$0")
say() { printf '%s\n' "$*" >&2; }
die() { say "$self: $1"; exit "${2:-1}"; }

base_image=debian:bookworm-slim
project=${FLEET_DOCKER_PROJECT:-${COMPOSE_PROJECT_NAME:-fleet}}
[[ $project =~ ^[a-z0-9][a-z0-9_-]*$ ]] || die "project name '$project': use a-z, 0-9, - and _ only" 2
# Every container and network of this project, and nothing of another tool's project of the same name.
ours=(--filter "label=fleet.fixture=sshd" --filter "label=com.docker.compose.project=$project")

run_dir=${FLEET_DOCKER_DIR:-$here/run}
# Says that docker/up made the directory: nothing else is ever filled or removed.
marker=.made-by-docker-up

need_engine() {
    command -v docker >/dev/null || die "no docker command: install Docker (Debian: apt-get install docker.io docker-compose)" 2
    docker version >/dev/null 2>&1 ||
        die "no answer from the docker engine: start it, or use it as root or as a member of the docker group" 2
}
