# shellcheck shell=bash
# The certificates and kubeconfigs of a cluster, in $DIR/pki.

# certificate NAME SUBJECT EXTENSION...: a key and a certificate, self-signed when it is the CA's.
certificate() {
  local name=$1 subject=$2 extension signer=() extensions=()
  shift 2
  for extension; do extensions+=(-addext "$extension"); done
  [[ $name == ca ]] || signer=(-CA ca.crt -CAkey ca.key)
  openssl req -x509 -config <(printf '[req]\ndistinguished_name=dn\n[dn]\n') -days 365 \
    -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout "$name.key" -out "$name.crt" \
    -subj "$subject" "${extensions[@]}" "${signer[@]}" 2>openssl.log ||
    die "$NAME: openssl could not make the certificate of $name: $(cat openssl.log)"
}

# kubeconfig USER FILE: its names tell the cluster, so that files of several can be merged.
kubeconfig() {
  cat >"$2" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $NAME
  cluster:
    server: https://$NODE_IP:6443
    certificate-authority-data: $(base64 -w0 ca.crt)
users:
- name: $NAME-$1
  user:
    client-certificate-data: $(base64 -w0 "$1.crt")
    client-key-data: $(base64 -w0 "$1.key")
contexts:
- name: $NAME
  context: {cluster: $NAME, user: $NAME-$1}
current-context: $NAME
YAML
}

# In a shell of its own, for its folder and umask.
make_pki() (
  local usage='extendedKeyUsage=serverAuth,clientAuth' user
  local host=kubernetes.default.svc
  cd "$DIR/pki"
  umask 077
  openssl ecparam -name prime256v1 -genkey -noout -out sa.key
  certificate ca "/CN=$NAME" basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,cRLSign
  certificate kube-apiserver /CN=kube-apiserver "$usage" \
    "subjectAltName=IP:127.0.0.1,IP:$NODE_IP,IP:$(nth_address "$SERVICES" 1)${NODE_IP6:+,IP:$NODE_IP6},DNS:kubernetes,DNS:kubernetes.default,DNS:$host,DNS:$host.cluster.local"
  certificate admin /O=system:masters/CN=admin "$usage"
  certificate kube-controller-manager /CN=system:kube-controller-manager "$usage"
  kubeconfig admin "$KUBECONFIG_ADMIN"
  kubeconfig kube-controller-manager kube-controller-manager.kubeconfig
  ! "$API_ONLY" || return 0
  certificate kube-scheduler /CN=system:kube-scheduler "$usage"
  certificate kube-proxy /CN=system:kube-proxy "$usage"
  certificate kubelet "/O=system:nodes/CN=system:node:$NAME" "$usage" "subjectAltName=DNS:$NAME,IP:$NODE_IP${NODE_IP6:+,IP:$NODE_IP6}"
  for user in kube-scheduler kube-proxy kubelet; do kubeconfig "$user" "$user.kubeconfig"; done
)
