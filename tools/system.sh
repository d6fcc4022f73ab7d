#!/usr/bin/env bash
# Installs the system packages that the tests need and the machine lacks. Silent and quick where all are there.
set -euo pipefail

missing=()
need() { if ! eval "$2" >/dev/null 2>&1; then missing+=("$1"); fi; }
in_sbin() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1"; }  # not on the path of everybody
need chromium 'command -v chromium'                          # the browser tests
need fonts-noto-cjk 'fc-list :lang=zh family | grep -q .'    # Chinese in screenshots
need util-linux 'command -v lscpu'                           # vLLM asks it for the cores
need curl 'command -v curl'                                  # the page's examples for other programs are run
need nodejs 'command -v node'                                # those in JavaScript too
need slurmctld 'in_sbin slurmctld'                           # a cluster of one machine, for trainings that SLURM runs
need slurmd 'in_sbin slurmd'
need slurm-client 'command -v sbatch'
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]}. Install them with this system's package manager (names are Debian's)." >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Missing: ${missing[*]}. As root: apt-get install --no-install-recommends ${missing[*]} fontconfig" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "${missing[@]}" fontconfig </dev/null
