//! The URL by which the importer's controller reaches the exporter's API server.

use std::net::IpAddr;

use anyhow::{anyhow, bail};

/// The URL for the kubeconfig: `--server`, else the one in the user's own kubeconfig.
///
/// # Errors
/// It is no https URL, or one that leads to the caller's own machine: in a pod that is the pod.
pub(super) fn choose(own: &str, flag: Option<&str>) -> anyhow::Result<String> {
    let (url, origin) = match flag {
        Some(url) => (url, "--server"),
        None => (own, "the exporter's kubeconfig"),
    };
    let parsed: http::Uri = url
        .parse()
        .map_err(|e| anyhow!("{url:?} ({origin}) is not a URL: {e}. Write for example https://203.0.113.10:6443."))?;
    if parsed.scheme_str() != Some("https") {
        bail!(
            "{url:?} ({origin}) does not begin with https://, and the controller speaks nothing else. Pass --server with an https URL."
        );
    }
    let authority = parsed.authority().map_or("", |a| a.as_str());
    if authority.contains('@') || parsed.query().is_some() {
        bail!("{url:?} ({origin}) has a user or a query in it. Pass --server with scheme, host, port and path only.");
    }
    let host = parsed.host().unwrap_or_default();
    if is_local(host) {
        bail!(
            "{url:?} ({origin}) leads to the machine that uses it, but the controller runs in a pod of the importer. Pass --server https://HOST:PORT, as that pod reaches the exporter's API server."
        );
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Hosts that mean "this machine" or "this link" wherever they are used.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let lower = host.to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return true;
    }
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_kubeconfig() {
        assert_eq!(choose("https://a:6443/", None).unwrap(), "https://a:6443");
        assert_eq!(choose("https://127.0.0.1:6443", Some("https://b/k8s/c")).unwrap(), "https://b/k8s/c");
    }

    #[test]
    fn loopback_in_any_spelling_asks_for_the_flag() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "localhost",
            "LocalHost.",
            "k.localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "[::]",
            "169.254.169.254",
            "[fe80::1]",
        ] {
            let error = choose(&format!("https://{host}:6443"), None).unwrap_err().to_string();
            assert!(error.contains("Pass --server https://HOST:PORT"), "{host}: {error}");
        }
    }

    #[test]
    fn what_the_controller_would_refuse_is_refused_here() {
        for (url, word) in [
            ("http://192.0.2.1", "https"),
            ("192.0.2.1:6443", "https"),
            ("https://", "not a URL"),
            ("https://u:p@192.0.2.1", "user"),
            ("https://192.0.2.1/?a=b", "query"),
            ("not a url", "not a URL"),
        ] {
            let error = choose("https://192.0.2.9", Some(url)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--server"), "{url}: {error}");
        }
    }
}
