//! Objects as they come over the wire, read by total functions: whatever JSON an API server
//! sends for an object, it becomes a value of [`crate::core::model`], a value that says why it
//! cannot be understood, or nothing. One bad object never fails a page or a watch.
//!
//! [`Wire`] prunes an object while it is parsed, so that nothing but what is kept is ever held:
//! a lean Service takes a tenth of a typed one.

mod field;
mod keep;
mod local;
mod object;
mod remote;
mod secret;

use std::{borrow::Cow, fmt::Debug};

use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::core::model::{Key, LocalNode, LocalService, LocalSlice, Origin, RemoteNode, RemoteSlice};

pub(super) use field::{is_dns_subdomain, is_uid};
pub use keep::Keep;
pub use local::{ClusterNamespace, ServiceRanges};
pub use object::ObjectWire;
pub use remote::LabelledSlice;
pub use secret::{SecretData, SecretValue};

/// A remote Service.
pub type OriginWire = Wire<Origin>;
/// A remote EndpointSlice; one that says nothing of use becomes nothing.
pub type RemoteSliceWire = Wire<Option<RemoteSlice>>;
/// A remote Node.
pub type RemoteNodeWire = Wire<RemoteNode>;
/// A Service of this cluster.
pub type LocalServiceWire = Wire<LocalService>;
/// An EndpointSlice of this cluster.
pub type LocalSliceWire = Wire<LocalSlice>;
/// A Namespace of this cluster.
pub type LocalNamespaceWire = Wire<ClusterNamespace>;
/// A Node of this cluster.
pub type LocalNodeWire = Wire<LocalNode>;
/// A ServiceCIDR of this cluster.
pub type ServiceRangesWire = Wire<ServiceRanges>;

/// A model value that is read from objects of one kind.
pub trait FromWire: Sized {
    /// The kind of the objects: gives the URL.
    type Kind: kube::Resource<DynamicType = ()>;
    /// The fields that are kept while an object is parsed.
    const KEEP: Keep;
    /// Reads the pruned object; total.
    fn from_wire(object: &Value) -> Self;
}

/// An object of the wire that has been read as a `T`.
///
/// Behind a pointer: a watcher keeps the emptied list of a page until the next page has come, and so
/// many links may wait for theirs at once.
#[derive(Clone, Debug)]
pub struct Wire<T>(Box<Object<T>>);

#[derive(Clone, Debug)]
struct Object<T> {
    metadata: ObjectMeta,
    model: T,
}

impl<T> Wire<T> {
    /// The object's key and value; none without a legal namespace and name, which no API server
    /// gives out.
    #[must_use]
    pub fn into_model(self) -> Option<(Key, T)> {
        let Object { metadata, model } = *self.0;
        match (metadata.namespace, metadata.name) {
            (Some(namespace), Some(name)) => Some((Key::new(namespace, name), model)),
            _ => None,
        }
    }

    /// The same for objects of cluster scope: name and value.
    #[must_use]
    pub fn into_named(self) -> Option<(String, T)> {
        let Object { metadata, model } = *self.0;
        metadata.name.map(|name| (name, model))
    }

    /// uid of the object; empty when it has none.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.0.metadata.uid.as_deref().unwrap_or_default()
    }

    /// resourceVersion of the object.
    #[must_use]
    pub fn resource_version(&self) -> Option<&str> {
        self.0.metadata.resource_version.as_deref()
    }
}

impl<T: FromWire> Wire<T> {
    /// Reads an object that has been parsed already, pruned or not.
    #[must_use]
    pub fn from_value(object: &Value) -> Self {
        Self(Box::new(Object { metadata: metadata(object), model: T::from_wire(object) }))
    }
}

impl<'de, T: FromWire> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        keep::prune(T::KEEP, deserializer).map(|object| Self::from_value(&object))
    }
}

impl<T: FromWire> kube::Resource for Wire<T> {
    type DynamicType = ();
    type Scope = <T::Kind as kube::Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Cow::Owned(T::Kind::kind(&()).into_owned())
    }

    fn group((): &()) -> Cow<'_, str> {
        Cow::Owned(T::Kind::group(&()).into_owned())
    }

    fn version((): &()) -> Cow<'_, str> {
        Cow::Owned(T::Kind::version(&()).into_owned())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Cow::Owned(T::Kind::plural(&()).into_owned())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

/// Longest resourceVersion that is kept, in bytes; those of etcd have some twenty digits.
const MAX_VERSION: usize = 256;

/// What the watcher and keys need of an object's metadata. Names and uids that Kubernetes does
/// not give out are left out: they go into URLs and keys.
fn metadata(object: &Value) -> ObjectMeta {
    let meta = &object["metadata"];
    let legal = |name: &str, fits: fn(&str) -> bool| meta[name].as_str().filter(|s| fits(s)).map(str::to_owned);
    let text = |name: &str| meta[name].as_str().map(str::to_owned);
    ObjectMeta {
        name: legal("name", field::is_dns_subdomain),
        namespace: legal("namespace", field::is_dns_label),
        uid: legal("uid", field::is_uid),
        resource_version: text("resourceVersion").filter(|version| version.len() <= MAX_VERSION),
        ..ObjectMeta::default()
    }
}
