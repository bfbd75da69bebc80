# shellcheck shell=bash
# What every command of the rig needs: where things lie, how errors are told, how
# processes are recorded. Sourcing it changes nothing on the machine.
set -euo pipefail
shopt -s inherit_errexit nullglob
# Containers run as other users, who must be able to read what is made for them.
umask 022

RIG_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RIG_CACHE=$(realpath -m "${HELIOSTAT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/heliostat}")
RIG_STATE=$(realpath -m "${HELIOSTAT_RIG:-/var/tmp/heliostat-rig}")

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Prints the comment at the head of the command's own file: its usage.
usage() { sed -n '2,/^[^#]/ { s/^# \{0,1\}//p }' "$0"; }

need_linux() {
  [[ $(uname -s) == Linux ]] || die "the clusters need Linux namespaces, and this is $(uname -s). Run it on a Linux machine or in a Linux VM"
}

need_root() {
  need_linux
  [[ $EUID -eq 0 ]] || die "must be root to make network namespaces and mounts. Run it with sudo, or as root"
}

# Where the CNI plugins of the distribution lie.
CNI_BIN=/usr/lib/cni

# "PROGRAM DEBIAN_PACKAGE" for each program of the machine that the rig calls.
machine_programs() {
  cat <<TABLE
curl curl
$CNI_BIN/ptp containernetworking-plugins
ip iproute2
iptables iptables
jq jq
nft nftables
openssl openssl
runc runc
TABLE
}

# What only `build` calls, for what no cluster needs by itself.
build_programs() {
  cat <<'TABLE'
pip3 python3-pip
TABLE
}

# missing_packages < TABLE: prints the Debian packages whose programs are missing, one a line.
missing_packages() {
  local program package
  while read -r program package; do
    command -v "$program" >/dev/null || say "$package"
  done
}

need_machine_programs() {
  local missing
  missing=$(machine_programs | missing_packages | paste -sd' ')
  [[ -z $missing ]] || die "missing on this machine: $missing. Run e2e/rig/install, which installs them"
}

# start_time PID: when it started, in clock ticks since boot (field 22 of proc_pid_stat(5),
# counted behind the ')' that ends the command's name). Fails if there is no such process.
start_time() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }"
  say "${fields[19]}"
}

# record_process FILE PID: remembers a process so that a later one with its number isn't taken for it.
record_process() { say "$2 $(start_time "$2")" >"$1"; }

# recorded_process FILE: prints the recorded process's id, or fails if that very process is gone.
recorded_process() {
  local pid started
  [[ -r $1 ]] && read -r pid started <"$1" && [[ $(start_time "$pid") == "$started" ]] && say "$pid"
}

# until_true SECONDS COMMAND...: repeats the command every 50 ms; fails when the time is over.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}
