# shellcheck shell=bash
# One cluster: its names and addresses, its node's namespaces, and how it is removed.
#
# A node is one process (lib/node-init) with network, mount, process and host-name
# namespaces of its own; everything that runs in the cluster is a descendant of it. The
# kernel ends all of them with it, so that nothing can stay behind: no container, no
# mount, no pod's network.

# The network between the clusters and this machine: the bridge, and the first three
# numbers of its /24. This machine has .1, the nodes .11 to .90, the load balancers POOL_SIZE
# each of .91 to .250.
RIG_BRIDGE=heliostat0
RIG_NET=${HELIOSTAT_RIG_NET:-172.30.0}
RIG_NET6=fd00:172:30::
POOL_SIZE=20
HAS_IPV6=$([[ ! -e /proc/net/if_inet6 ]] || say yes)
# All pods of all clusters, whichever ranges a cluster has.
ALL_PODS=10.244.0.0/16 ALL_PODS6=fd00:10:244::/48

# select_cluster NAME: sets DIR and the rest of what is derived from the name.
select_cluster() {
  # The longest that fits a network interface's name (15) behind "hr-".
  [[ $1 =~ ^[a-z]([-a-z0-9]{0,10}[a-z0-9])?$ ]] ||
    die "'$1' is no name for a cluster: lower-case letters, digits and -, a letter first, at most 12 characters"
  NAME=$1 DIR=$RIG_STATE/$1 PORT_LINK=hr-$1 KUBECONFIG_ADMIN=$RIG_STATE/$1/kubeconfig
}

# load_cluster NAME: selects a cluster that is there and reads how it was made.
load_cluster() {
  select_cluster "$1"
  [[ -f $DIR/cluster.conf ]] || die "there is no cluster $NAME in $RIG_STATE. Start it with: e2e/rig/up $NAME"
  # shellcheck source=/dev/null
  source "$DIR/cluster.conf"
}

# need_node: sets NODE, the process id of the node as this machine sees it.
need_node() {
  NODE=$(recorded_process "$DIR/node.pid") ||
    die "the node of $NAME is not running (was the machine restarted?). Run e2e/rig/down $NAME and e2e/rig/up $NAME"
}

# in_node COMMAND...: runs a program of this machine as a process of the node, in the cluster's folder.
in_node() { nsenter --target "$NODE" --mount --net --pid --uts -- env -C "$DIR" "$@"; }

# node_ctr ARGS...: containerd's own client. It would warn about cgroup v1 at every call.
node_ctr() { in_node env CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1 "${PROGRAM[ctr]}" -n k8s.io "$@"; }

# pod_pid NAMESPACE POD: the process of a pod's first container, as the node sees it.
pod_pid() {
  local container pid
  container=$(admin_kubectl -n "$1" get pod "$2" -o 'jsonpath={.status.containerStatuses[0].containerID}')
  pid=$(node_ctr tasks ls | awk -v id="${container#*//}" '$1 == id { print $2 }')
  [[ -n $pid ]] || die "$1/$2 in $NAME has no running container. See: e2e/rig/kubectl $NAME -n $1 describe pod $2"
  printf '%s\n' "$pid"
}

# admin_kubectl ARGS...: never through a proxy that this machine's environment names.
admin_kubectl() {
  NO_PROXY='*' no_proxy='*' "${PROGRAM[kubectl]}" --kubeconfig "$KUBECONFIG_ADMIN" "$@"
}

# nth_address RANGE N: the Nth address of an IPv4 range.
nth_address() {
  local a b c d n
  IFS=./ read -r a b c d _ <<<"$1"
  n=$(((a << 24 | b << 16 | c << 8 | d) + $2))
  say "$((n >> 24 & 255)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))"
}

# write_config INDEX OPTIONS...: decides the cluster's addresses. INDEX is the last number of
# the node's address; with --routed the ranges are made from it, so that every node knows
# every other's pod range without being told.
write_config() {
  local index=$1 routed='' dual='' api_only=false mode=nftables option
  shift
  for option; do
    case $option in
      --routed) routed=$index ;;
      --dual-stack) dual=yes ;;
      --api-only) api_only=true ;;
      --proxy-mode=*) mode=${option#*=} ;;
    esac
  done
  cat >"$DIR/cluster.conf" <<CONF
OPTIONS='$*'
INDEX=$index
NODE_IP=$RIG_NET.$index
PODS=10.244.${routed:-0}.0/24
SERVICES=10.${routed:-96}.0.0/16
ROUTED=${routed:+yes}
NODE_IP6=${dual:+$RIG_NET6$index}
PODS6=${dual:+fd00:10:244:${routed:-0}::/64}
SERVICES6=${dual:+fd00:10:${routed:-96}::/112}
API_ONLY=$api_only
PROXY_MODE=$mode
CONF
}

# The components of a cluster, in the order of their start.
components() {
  printf "%s\n" etcd kube-apiserver kube-controller-manager
  "$API_ONLY" || printf "%s\n" kube-scheduler containerd kubelet kube-proxy
  [[ -z $(link_word 3) ]] || printf "%s\n" load-balancer
}

# ---- the network between the nodes ----

# Runs a command while no other one changes the bridge or hands out addresses.
with_network_lock() { (flock 9; "$@") 9<"$RIG_STATE"; }

bridge_exists() { ip link show "$RIG_BRIDGE" >/dev/null 2>&1; }

# The bridge's exemption from the machine's firewall. Where the kernel passes bridged packets to
# iptables, a FORWARD policy of DROP (Docker sets it) would cut the clusters off from each other.
BRIDGE_RULE=(FORWARD -i "$RIG_BRIDGE" -o "$RIG_BRIDGE" -m comment --comment heliostat-rig -j ACCEPT)

exempt_bridge() {
  local tables
  [[ $(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null) == 1 ]] || return 0
  for tables in iptables ${HAS_IPV6:+ip6tables}; do
    "$tables" -w 10 -C "${BRIDGE_RULE[@]}" 2>/dev/null || "$tables" -w 10 -I "${BRIDGE_RULE[@]}"
  done
}

remove_exemption() {
  local tables
  for tables in iptables ip6tables; do
    while "$tables" -w 10 -D "${BRIDGE_RULE[@]}" 2>/dev/null; do :; done
  done
}

# make_bridge: completes one that an interrupted run has left half-made, too.
make_bridge() {
  local used
  if ! bridge_exists; then
    used=$(ip -4 route show match "$RIG_NET.0/24" | awk '$1 != "default"')
    [[ -z $used ]] ||
      die "the network $RIG_NET.0/24 is in use on this machine ($used). Choose another: export HELIOSTAT_RIG_NET=10.123.45"
    ip link add "$RIG_BRIDGE" address "$(hardware_address 1)" type bridge
  fi
  ip addr replace "$RIG_NET.1/24" dev "$RIG_BRIDGE"
  [[ -z $HAS_IPV6 ]] || ip addr replace "${RIG_NET6}1/64" dev "$RIG_BRIDGE" nodad
  ip link set "$RIG_BRIDGE" up
  exempt_bridge
}

# The kernel is the register: each node's link says "heliostat-rig INDEX FOLDER", and the first
# number of the pool if the cluster has a load balancer.

# used_words N: prints the Nth word, from 0, of every node's link.
used_words() { ip -j link show master "$RIG_BRIDGE" | jq -r --argjson n "$1" '.[].ifalias // "" | split(" ")[$n] // empty'; }

# link_word N: prints the Nth word of this cluster's link, if there is one.
link_word() { ip -j link show "$PORT_LINK" 2>/dev/null | jq -r --argjson n "$1" '.[0].ifalias // "" | split(" ")[$n] // empty'; }

# hardware_address INDEX: the same for the same IP address, whoever has it. Neighbours would
# go on looking for an earlier owner's for half a minute.
hardware_address() { printf '02:68:67:00:00:%02x' "$1"; }

# Prints the folder of the cluster whose link has this name, if there is one.
link_owner() { link_word 2; }

# claim_address: makes the node's link, and prints its INDEX.
claim_address() {
  local index used
  make_bridge
  used=$(used_words 1)
  for ((index = 11; index <= 90; index++)); do
    grep -qx "$index" <<<"$used" || break
  done
  ((index <= 90)) || die "all 80 addresses of $RIG_BRIDGE are taken. Remove clusters with: e2e/rig/down NAME"
  ip link add "$PORT_LINK" type veth peer name "hp-$NAME" address "$(hardware_address "$index")"
  ip link set "$PORT_LINK" alias "heliostat-rig $index $DIR" master "$RIG_BRIDGE" up
  say "$index"
}

# claim_pool: makes sure that the cluster has addresses for a load balancer.
claim_pool() {
  local first used
  [[ -z $(link_word 3) ]] || return 0
  used=$(used_words 3)
  for ((first = 91; first + POOL_SIZE <= 251; first += POOL_SIZE)); do
    grep -qx "$first" <<<"$used" || break
  done
  ((first + POOL_SIZE <= 251)) ||
    die "all pools of addresses for load balancers are taken on $RIG_BRIDGE. Remove clusters with: e2e/rig/down NAME"
  ip link set "$PORT_LINK" alias "heliostat-rig $INDEX $DIR $first"
}

release_address() {
  local owner
  owner=$(link_owner) || owner=''
  # Without an owner: what an interrupted run has left, or nothing at all.
  [[ -n $owner && $owner != "$DIR" ]] || ip link del "$PORT_LINK" 2>/dev/null || true
  if bridge_exists && [[ -z $(used_words 1) ]]; then
    remove_exemption
    ip link del "$RIG_BRIDGE"
  fi
}

# connect_node: gives the node its end of the link, addresses, routes and masquerading.
connect_node() {
  local other
  ip link set "hp-$NAME" netns "$NODE" name eth0
  {
    say "addr add $NODE_IP/24 dev eth0"
    [[ -z $NODE_IP6 ]] || say "addr add $NODE_IP6/64 dev eth0 nodad"
    say "link set lo up"
    say "link set eth0 up"
    say "route add default via $RIG_NET.1"
    [[ -z $NODE_IP6 ]] || say "route add default via ${RIG_NET6}1"
    [[ -z $ROUTED ]] || for ((other = 11; other <= 90; other++)); do
      ((other != INDEX)) || continue
      say "route add 10.244.$other.0/24 via $RIG_NET.$other"
      [[ -z $NODE_IP6 ]] || say "route add fd00:10:244:$other::/64 via $RIG_NET6$other"
    done
  } | in_node ip -batch -
  in_node nft -f - <<NFT
table inet heliostat-rig {
  chain postrouting {
    type nat hook postrouting priority srcnat
    oifname eth0 ip saddr $PODS ip daddr != $ALL_PODS masquerade
    ${PODS6:+oifname eth0 ip6 saddr $PODS6 ip6 daddr != $ALL_PODS6 masquerade}
  }
}
NFT
}

# ---- the end of a cluster ----

node_is_gone() { ! recorded_process "$DIR/node.pid" >/dev/null; }

# The control groups that the kubelet made; on cgroup v1 one tree a controller.
remove_cgroups() {
  local mount
  while read -r mount; do
    [[ ! -d $mount/heliostat-rig/$NAME ]] || find "$mount/heliostat-rig/$NAME" -depth -type d -exec rmdir {} + || return 1
    rmdir "$mount/heliostat-rig" 2>/dev/null || true
  done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts)
}

# remove_cluster: whatever is there of it, in whatever state it is.
remove_cluster() {
  local node
  if node=$(recorded_process "$DIR/node.pid"); then
    kill -KILL "$node"
    until_true 15 node_is_gone || die "$NAME: its node, process $node, does not end. See /proc/$node/stack"
  fi
  [[ ! -d $RIG_STATE ]] || with_network_lock release_address
  until_true 5 remove_cgroups 2>/dev/null || die "$NAME: control groups named heliostat-rig/$NAME cannot be removed; is a process in them?"
  rm -rf "$DIR"
  rmdir "$RIG_STATE" 2>/dev/null || true
}
