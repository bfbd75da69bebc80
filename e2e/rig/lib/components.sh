# shellcheck shell=bash
# The components of a cluster: with which flags and files each runs, and how one is
# started, stopped and looked at. README.md says why each odd flag is there.

# component_command COMPONENT: sets COMMAND, writing the files that it names. One that is no
# program of the cache is a script beside this file.
component_command() {
  COMMAND=("${PROGRAM[$1]:-$RIG_HOME/lib/$1}")
  case $1 in
    etcd)
      COMMAND+=(--data-dir "$DIR/etcd" --unsafe-no-fsync
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
        --listen-peer-urls http://127.0.0.1:2380)
      ;;
    kube-apiserver)
      COMMAND+=(--etcd-servers http://127.0.0.1:2379 --advertise-address "$NODE_IP" --allow-privileged
        --service-cluster-ip-range "$SERVICES${SERVICES6:+,$SERVICES6}"
        --authorization-mode "Node,RBAC" --enable-admission-plugins NodeRestriction
        --tls-cert-file pki/kube-apiserver.crt --tls-private-key-file pki/kube-apiserver.key --client-ca-file pki/ca.crt
        --service-account-issuer https://kubernetes.default.svc.cluster.local
        --service-account-key-file pki/sa.key --service-account-signing-key-file pki/sa.key
        --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority pki/ca.crt
        --kubelet-client-certificate pki/admin.crt --kubelet-client-key pki/admin.key
        --audit-policy-file "$RIG_HOME/manifests/audit-policy.yaml" --audit-log-path "$DIR/audit.log"
        --audit-log-maxsize 100000 --delete-collection-workers 16)
      ;;
    kube-controller-manager)
      COMMAND+=(--kubeconfig pki/kube-controller-manager.kubeconfig --leader-elect=false --use-service-account-credentials
        --kube-api-qps 200 --kube-api-burst 400
        --service-account-private-key-file pki/sa.key --root-ca-file pki/ca.crt
        --allocate-node-cidrs --cluster-cidr "$PODS${PODS6:+,$PODS6}"
        --service-cluster-ip-range "$SERVICES${SERVICES6:+,$SERVICES6}")
      ;;
    kube-scheduler) COMMAND+=(--kubeconfig pki/kube-scheduler.kubeconfig --leader-elect=false) ;;
    containerd)
      containerd_config >"$DIR/containerd.toml"
      mkdir -p "$DIR/cni"
      cni_config >"$DIR/cni/10-pods.conflist"
      COMMAND+=(--config "$DIR/containerd.toml")
      ;;
    kubelet)
      kubelet_config >"$DIR/kubelet.yaml"
      COMMAND+=(--config "$DIR/kubelet.yaml" --kubeconfig pki/kubelet.kubeconfig
        --hostname-override "$NAME" --node-ip "$NODE_IP${NODE_IP6:+,$NODE_IP6}")
      ;;
    kube-proxy)
      proxy_config >"$DIR/kube-proxy.yaml"
      COMMAND+=(--config "$DIR/kube-proxy.yaml")
      ;;
    load-balancer)
      COMMAND+=("https://$NODE_IP:6443" "$DIR/pki" "$(link_word 3)" "$POOL_SIZE" "$RIG_NET." ${NODE_IP6:+"$RIG_NET6"})
      ;;
    *) die "'$1' is no component of $NAME. It has: $(components | paste -sd' ')" ;;
  esac
}

containerd_config() {
  cat <<TOML
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "heliostat.test/agnhost:1"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$CNI_BIN"]
conf_dir = "$DIR/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
TOML
}

cni_config() {
  jq -n --arg pods "$PODS" --arg pods6 "$PODS6" '
    ([$pods, $pods6] | map(select(. != ""))) as $ranges
    | { cniVersion: "1.0.0", name: "pods", plugins: [
        { type: "ptp",
          ipam: { type: "host-local",
                  ranges: ($ranges | map([{ subnet: . }])),
                  routes: ($ranges | map({ dst: (if contains(":") then "::/0" else "0.0.0.0/0" end) })) } },
        { type: "portmap", capabilities: { portMappings: true } } ] }'
}

kubelet_config() {
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  x509: {clientCAFile: $DIR/pki/ca.crt}
tlsCertFile: $DIR/pki/kubelet.crt
tlsPrivateKeyFile: $DIR/pki/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volume-plugins
clusterDomain: cluster.local
clusterDNS: ["$(nth_address "$SERVICES" 10)"]
resolvConf: $DIR/resolv.conf
cgroupDriver: cgroupfs
cgroupRoot: /heliostat-rig/$NAME
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {imagefs.available: "0%", nodefs.available: "0%", memory.available: "0%"}
YAML
}

proxy_config() {
  cat <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $DIR/pki/kube-proxy.kubeconfig}
hostnameOverride: $NAME
mode: $PROXY_MODE
clusterCIDR: $PODS${PODS6:+,$PODS6}
conntrack: {maxPerCore: 0, min: 0}
YAML
}

# component_pid COMPONENT: prints its process id inside the node, or fails when it doesn't run.
# A number in the node's own process namespace can only ever be a process of this cluster.
component_pid() {
  local pid process
  [[ -r $DIR/pids/$1 ]] && pid=$(<"$DIR/pids/$1") && process=/proc/$NODE/root/proc/$pid || return 1
  # A script's program is bash, and its first argument the script.
  [[ $(readlink "$process/exe") == */"$1" ]] || { tr '\0' '\n' <"$process/cmdline" | sed -n 2p | grep -q "/$1\$"; } 2>/dev/null || return 1
  say "$pid"
}

component_runs() { component_pid "$1" >/dev/null; }
component_is_gone() { ! component_runs "$1"; }

# start_component COMPONENT: returns as soon as it runs, which isn't yet ready.
start_component() {
  local COMMAND
  component_command "$1"
  rm -f "$DIR/pids/$1"
  # setsid --fork leaves it to the node's first process; the environment is the rig's own, so
  # that no proxy setting of this machine reaches a component.
  # shellcheck disable=SC2016
  in_node env -i PATH="$PROGRAM_FOLDERS:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root \
    setsid --fork bash -c 'echo $$ >"$0"; exec "$@"' "$DIR/pids/$1" "${COMMAND[@]}" \
    >>"$DIR/log/$1.log" 2>&1 </dev/null
  until_true 5 component_runs "$1" || fail_component "$1"
}

# signal_component COMPONENT SIGNAL
signal_component() {
  local pid
  # shellcheck disable=SC2016
  ! pid=$(component_pid "$1") || in_node bash -c 'kill -s "$0" "$1"' "$2" "$pid"
}

# stop_component COMPONENT: as an init system would, with SIGKILL after 10 seconds.
stop_component() {
  signal_component "$1" TERM
  # For one that is paused; any other may have ended by now.
  signal_component "$1" CONT 2>/dev/null || true
  until_true 10 component_is_gone "$1" || kill_component "$1"
}

kill_component() {
  signal_component "$1" KILL
  until_true 5 component_is_gone "$1" || die "$NAME: $1 does not end, not even after SIGKILL"
}

# fail_component COMPONENT: shows the end of its log and gives up.
fail_component() {
  { say "---- the last lines of $1 in $NAME:"; tail -n 15 "$DIR/log/$1.log"; say "----"; } >&2
  die "$NAME: $1 ended on its own, see above"
}

# assert_alive: every component that was started still runs.
assert_alive() {
  local pidfile
  for pidfile in "$DIR"/pids/*; do
    component_runs "${pidfile##*/}" || fail_component "${pidfile##*/}"
  done
}

# wait_for SECONDS WHAT COMMAND...: fails at once when a component dies meanwhile.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >"$DIR/log/wait.log" 2>&1; do
    assert_alive
    ((SECONDS < deadline)) || die "$NAME: $what not reached in time: $(tail -n 3 "$DIR/log/wait.log")"
    sleep 0.1
  done
}

# api_get PATH: a tenth of what kubectl costs, for what is asked over and over.
api_get() {
  curl --fail-with-body -sS --noproxy '*' --max-time 5 --cacert "$DIR/pki/ca.crt" --cert "$DIR/pki/admin.crt" --key "$DIR/pki/admin.key" \
    "https://$NODE_IP:6443$1"
}

etcd_is_ready() { in_node curl -fsS --noproxy '*' --max-time 5 http://127.0.0.1:2379/health; }
api_is_ready() { api_get /readyz; }
