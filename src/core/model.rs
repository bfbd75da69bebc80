//! What the deciding side knows of objects: small, checked, comparable values. Readers convert
//! wire objects to these on entry; writers render these to JSON. No Kubernetes type passes.

mod local;
mod remote;

use std::{
    fmt,
    net::IpAddr,
    ops::{Deref, DerefMut},
    str::FromStr,
    sync::{Arc, LazyLock},
};

pub use self::{
    local::{
        LinkerdKeys, LocalNamespace, LocalNode, LocalPort, LocalService, LocalSlice, MirrorCommon, MirrorEndpoint,
        MirrorState, MirroredCondition, Oddities, SliceBody, SliceCommon,
    },
    remote::{
        AddressType, Ingress, Origin, OriginCommon, OriginPort, OriginType, Published, RemoteEndpoint, RemoteNode,
        RemoteSlice, RemoteSliceCommon, SliceRole,
    },
};
use super::value::{Alike, Pooled};
pub use super::{
    annotations::Annotations,
    value::{Address, List, Map, One, Seldom, Text, Uid, Version},
};
use crate::intern::Pool;

/// `<namespace>/<name>` of a namespaced object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Text,
    /// Its name.
    pub name: Text,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<Text>, name: impl Into<Text>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Whether its text is read as this key again.
    pub fn is_written_as_key(&self) -> bool {
        let whole = |part: &str| !part.is_empty() && !part.contains('/');
        whole(&self.namespace) && whole(&self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A string that is not `<namespace>/<name>`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not <namespace>/<name>; write for example shop/books")]
pub struct NotAKey(pub String);

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(s: &str) -> Result<Self, NotAKey> {
        match s.split_once('/') {
            Some((ns, name)) if !ns.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Self::new(ns, name)),
            _ => Err(NotAKey(s.to_owned())),
        }
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default of Kubernetes.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name as it stands in a Service.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The protocol of that name; none for names that Kubernetes does not know.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.as_str() == name)
    }
}

/// Address family of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The name as it stands in `addressType` and `ipFamilies`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|f| f.as_str() == name)
    }
}

/// A port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlicePort {
    /// Name; empty for a Service's only, unnamed port.
    pub name: Text,
    /// Port number, 1–65535.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Application protocol.
    pub app_protocol: Option<Text>,
}

/// Conditions of an endpoint. Unset `ready` counts as true, as Kubernetes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Readiness {
    /// Takes traffic.
    pub ready: bool,
    /// Would take traffic if it were not terminating.
    pub serving: bool,
    /// Is being deleted.
    pub terminating: bool,
}

impl Readiness {
    /// Ready and serving, or neither.
    pub const fn all(ready: bool) -> Self {
        Self { ready, serving: ready, terminating: false }
    }
}

/// Lists of these are held once.
macro_rules! pooled {
    ($($kind:ident),*) => {$(
        impl Pooled for $kind {
            fn pool() -> &'static Pool<Arc<[Self]>> {
                static LISTS: LazyLock<Pool<Arc<[$kind]>>> = LazyLock::new(Pool::default);
                &LISTS
            }
        }
    )*};
}

pooled!(OriginPort, SlicePort, Family, LocalPort, RemoteEndpoint, MirrorEndpoint);

/// These are held once.
macro_rules! alike {
    ($($kind:ident),*) => {$(
        impl Alike for $kind {
            fn pool() -> &'static Pool<Arc<Self>> {
                static ONES: LazyLock<Pool<Arc<$kind>>> = LazyLock::new(Pool::default);
                &ONES
            }
        }
    )*};
}

alike!(Key, OriginCommon, RemoteSliceCommon, Published, MirrorCommon, SliceCommon);

/// What many have alike reads as if it were their own.
macro_rules! common {
    ($($kind:ident: $common:ident),*) => {$(
        impl Deref for $kind {
            type Target = $common;

            fn deref(&self) -> &$common {
                &self.common
            }
        }

        impl DerefMut for $kind {
            fn deref_mut(&mut self) -> &mut $common {
                &mut self.common
            }
        }
    )*};
}

common!(Origin: OriginCommon, RemoteSlice: RemoteSliceCommon, MirrorState: MirrorCommon, SliceBody: SliceCommon);
