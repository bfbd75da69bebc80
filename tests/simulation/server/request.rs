//! What a request asks for.

use std::collections::BTreeMap;

use http::{Method, Request};
use serde_json::Value;

use super::resources::{RESOURCES, Resource};

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Patch,
    Delete,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Patch | Self::Delete)
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Version,
    /// The resources of a group and version.
    Discovery(String, String),
    Resource {
        resource: &'static Resource,
        namespace: String,
        name: String,
        status: bool,
    },
    /// A resource that is not served, of a group that is.
    NoResource,
    /// Nothing at all.
    Nowhere,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: String,
    /// The account that an administrator acts as.
    pub(crate) impersonated: Option<String>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn new<B>(request: &Request<B>, body: &[u8]) -> Self {
        let uri = request.uri();
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let query: BTreeMap<String, String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        let target = target(uri.path());
        let named = matches!(&target, Target::Resource { name, .. } if !name.is_empty());
        let watch = query.get("watch").is_some_and(|value| matches!(value.as_str(), "true" | "1"));
        let verb = match *request.method() {
            Method::POST => Verb::Create,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if watch => Verb::Watch,
            _ if named || !matches!(target, Target::Resource { .. }) => Verb::Get,
            _ => Verb::List,
        };
        Self {
            verb,
            target,
            path: uri.path().to_owned(),
            query,
            content_type: header("content-type").unwrap_or_default(),
            impersonated: header("impersonate-user"),
            body: serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }

    pub(crate) fn plural(&self) -> &'static str {
        if let Target::Resource { resource, .. } = self.target { resource.plural } else { "" }
    }

    /// Who leads: the one Lease that is no claim of a port.
    pub(crate) fn is_election(&self) -> bool {
        self.plural() == "leases"
            && (self.path.ends_with("/leases/heliostat") || self.body["metadata"]["name"] == "heliostat")
    }

    /// As RBAC spells it: `services/status`.
    pub(crate) fn resource(&self) -> String {
        let status = matches!(self.target, Target::Resource { status: true, .. });
        format!("{}{}", self.plural(), if status { "/status" } else { "" })
    }
}

fn target(path: &str) -> Target {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match segments.as_slice() {
        ["version"] => return Target::Version,
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Target::Nowhere,
    };
    if !RESOURCES.iter().any(|resource| (resource.group, resource.version) == (group, version)) {
        return Target::Nowhere;
    }
    let (namespace, plural, rest) = match rest {
        [] => return Target::Discovery(group.to_owned(), version.to_owned()),
        ["namespaces", namespace, plural, rest @ ..] if *plural != "status" => (*namespace, *plural, rest),
        [plural, rest @ ..] => ("", *plural, rest),
    };
    let (name, status) = match rest {
        [] => ("", false),
        [name] => (*name, false),
        [name, "status"] => (*name, true),
        _ => return Target::NoResource,
    };
    let found = Resource::at(group, version, plural).filter(|found| found.status || !status);
    match found {
        Some(resource) if resource.namespaced || namespace.is_empty() => {
            Target::Resource { resource, namespace: namespace.to_owned(), name: name.to_owned(), status }
        }
        _ => Target::NoResource,
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let hex = std::str::from_utf8(&after[..2]).unwrap();
                rest = &after[2..];
                u8::from_str_radix(hex, 16).unwrap()
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).unwrap()
}
