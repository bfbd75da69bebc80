//! Where an API server is: an https URL, taken apart and put together again, so that what is
//! dialled is what was checked.

use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::ServerName;

use super::{CredentialsError, document};
use crate::cluster::{address, wire::is_dns_subdomain};

/// An API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name (lower case, no trailing dot) or IP address.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// What stands before `/api` and `/apis` (Rancher and other proxies); without trailing slash.
    pub path: String,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An IP address; those that are never dialled have been refused.
    Ip(IpAddr),
    /// A name, resolved as an absolute one at every connect.
    Name(String),
}

impl Server {
    pub(super) fn parse(url: &str) -> Result<Self, CredentialsError> {
        let invalid = |why| CredentialsError::invalid(document::SERVER, why);
        let uri: Uri = url.parse().map_err(|_| invalid("is not a URL; write https://<host>:<port>"))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid("does not begin with https://; the credential is never sent in the clear"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("has no host; write https://<host>:<port>"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("carries a user name; use an inline token"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(invalid("has a query or fragment; write https://<host>:<port>"));
        }
        let port = port(authority.as_str(), authority.host())
            .ok_or_else(|| invalid("has no port between 1 and 65535; write https://<host>:<port>"))?;
        Ok(Self {
            host: host(authority.host()).map_err(invalid)?,
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `host:port`, as it stands in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            Host::Ip(IpAddr::V4(address)) => format!("{address}:{}", self.port),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }
}

/// What stands behind the host: nothing, or a colon and a port.
fn port(authority: &str, host: &str) -> Option<u16> {
    match authority.strip_prefix(host)? {
        "" => Some(443),
        rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port > 0),
    }
}

fn host(text: &str) -> Result<Host, &'static str> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        address::check(address)?;
        return Ok(Host::Ip(address));
    }
    let name = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(address::LOOPBACK);
    }
    if is_numeric(&name) || !is_dns_subdomain(&name) || ServerName::try_from(name.as_str()).is_err() {
        return Err("has a host that is neither a DNS name nor an IP address in its usual form");
    }
    Ok(Host::Name(name))
}

/// Other spellings of IPv4 addresses (octal, hexadecimal, fewer than four parts) end in a number;
/// no host name does (WHATWG URL, "ends in a number").
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

/// The name that the server's certificate must have.
pub(super) fn tls_name(text: &str) -> Result<ServerName<'static>, CredentialsError> {
    ServerName::try_from(text.to_owned())
        .map_err(|_| CredentialsError::invalid(document::SERVER_NAME, "is neither a DNS name nor an IP address"))
}
