//! Which labels and annotations of an origin a mirror may carry: only those that the policy's
//! allow-list names, and never those that have an effect of their own here (design: section 3).

use super::model::Map;

/// Groups that are never copied, with everything below them.
const NEVER_GROUPS: &[&str] = &[
    "argocd.argoproj.io",
    "fluxcd.io",
    "toolkit.fluxcd.io",
    "helm.sh",
    "meta.helm.sh",
    "k8s.io",
    "kubernetes.io",
    "heliostat.dev",
    "mirror.linkerd.io",
    "multicluster.linkerd.io",
    "linkerd.io",
    "cilium.io",
    "metallb.io",
    "metallb.universe.tf",
    "service.beta.kubernetes.io",
    "cloud.google.com",
    "networking.gke.io",
    "azure.com",
    "amazonaws.com",
    "digitalocean.com",
    "hetzner.cloud",
    "oraclecloud.com",
    "openstack.org",
    "alibabacloud.com",
    "purelb.io",
    "kube-vip.io",
    "tailscale.com",
];

/// Whether a key may be copied at all.
pub fn may_be_copied(key: &str) -> bool {
    let Some((group, _)) = key.split_once('/') else { return true };
    !NEVER_GROUPS
        .iter()
        .any(|never| group == *never || group.strip_suffix(never).is_some_and(|head| head.ends_with('.')))
}

/// The entries of `from` that the allow-list names (`group/*` allows a whole group) and that may
/// be copied at all.
pub fn allowed(from: &Map, allow: &[String]) -> Map {
    let named = |key: &str| {
        allow.iter().any(|entry| match entry.strip_suffix("/*") {
            Some(group) => key.split_once('/').is_some_and(|(g, _)| g == group),
            None => entry == key,
        })
    };
    from.iter().filter(|(key, _)| named(key) && may_be_copied(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a10_keys_with_an_effect_are_never_copied() {
        for key in [
            "argocd.argoproj.io/instance",
            "argocd.argoproj.io/tracking-id",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/name",
            "kustomize.toolkit.fluxcd.io/name",
            "fluxcd.io/sync",
            "helm.sh/chart",
            "meta.helm.sh/release-name",
            "kubectl.kubernetes.io/last-applied-configuration",
            "external-dns.alpha.kubernetes.io/hostname",
            "service.beta.kubernetes.io/aws-load-balancer-type",
            "endpoints.kubernetes.io/last-change-trigger-time",
            "gateway.networking.k8s.io/x",
            "heliostat.dev/export",
            "mirror.linkerd.io/exported",
            "multicluster.linkerd.io/y",
            "service.cilium.io/global",
            "metallb.universe.tf/address-pool",
        ] {
            assert!(!may_be_copied(key), "{key}");
            let group = format!("{}/*", key.split('/').next().unwrap());
            let from = Map::from([(key.to_owned(), "v".to_owned())]);
            assert!(allowed(&from, &[key.to_owned(), group]).is_empty(), "{key}");
        }
    }

    #[test]
    fn m07_only_what_the_list_names_is_copied() {
        let from: Map = ["team", "example.com/a", "example.com/b", "other.example.com/c"]
            .iter()
            .map(|k| ((*k).to_owned(), "v".to_owned()))
            .collect();
        let keys = |allow: &[&str]| -> Vec<String> {
            let allow: Vec<String> = allow.iter().map(|s| (*s).to_owned()).collect();
            allowed(&from, &allow).keys().map(ToString::to_string).collect()
        };
        assert_eq!(keys(&[]), Vec::<String>::new());
        assert_eq!(keys(&["team"]), ["team"]);
        assert_eq!(keys(&["example.com/*"]), ["example.com/a", "example.com/b"]);
    }
}
