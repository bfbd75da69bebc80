//! The one way in and the one way out of the deciding side: `engine.handle(input, now)` takes an
//! [`Input`] and gives [`Output`]s. Nothing else crosses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use super::model::{
    Annotations, Key, List, LocalNamespace, LocalNode, LocalService, LocalSlice, Map, Origin, RemoteNode, RemoteSlice,
    SliceBody, SlicePort, Text, Uid, Version,
};
use super::{
    envoy::{EnvoyConfig, EnvoyState},
    export::object::{Kind, KindNews, ObjectId},
    reach::{ProbeTask, Target, Verdict},
};
use crate::api::{
    ClusterLink, GatewayBinding, MirrorPolicy, Reason, binding::GatewayBindingStatus, link::ClusterLinkStatus,
    policy::MirrorPolicyStatus,
};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// An object of this cluster.
    Local(Local),
    /// News of a link.
    Remote {
        /// Name of the link.
        link: String,
        /// Number of the session that says so; news of sessions that were replaced is dropped.
        session: u64,
        /// When the session received it.
        received: Timestamp,
        /// What it says.
        event: RemoteEvent,
    },
    /// A write that was asked for has been answered.
    Written {
        /// The write's number.
        id: WriteId,
        /// How it went.
        result: Result<Written, WriteError>,
    },
    /// A hostname was resolved, or could not be.
    Resolved {
        /// The hostname, absolute, without the trailing dot.
        host: String,
        /// Its addresses; or why there are none, in words. An error keeps the last good answer
        /// until `expired`.
        answer: Result<Vec<IpAddr>, String>,
        /// The last good answer is more than an hour past its TTL.
        expired: bool,
    },
    /// The prober's verdict on an address is another one now.
    Probed {
        /// The address.
        target: Target,
        /// The verdict.
        verdict: Verdict,
    },
    /// Something that matters to the exporter's side only.
    Export(ExportNews),
    /// Time has passed; something may be due.
    Tick,
}

impl From<Local> for Input {
    fn from(local: Local) -> Self {
        Self::Local(local)
    }
}

impl From<ExportNews> for Input {
    fn from(news: ExportNews) -> Self {
        Self::Export(news)
    }
}

/// What the exporter's side is told of this cluster.
#[derive(Clone, Debug)]
pub enum ExportNews {
    /// A Service, be it exported or not, read as an importer reads it.
    Service(Change<Key, Origin>),
    /// An EndpointSlice of Kubernetes' own: the pods of a Service.
    Slice(Change<Key, RemoteSlice>),
    /// A Node, as a place where node ports answer.
    Node(Change<String, RemoteNode>),
    /// Objects of a kind that [`Output::Follow`] asked for.
    Objects(Kind, KindNews),
    /// What the Envoys of one binding say.
    Envoy(EnvoyState),
}

/// Something about an object of this cluster.
#[derive(Clone, Debug)]
pub enum Local {
    /// A ClusterLink.
    Link(Change<String, Box<ClusterLink>>),
    /// A MirrorPolicy.
    Policy(Change<Key, Box<MirrorPolicy>>),
    /// A GatewayBinding.
    Binding(Change<String, Box<GatewayBinding>>),
    /// A Namespace.
    Namespace(Change<String, LocalNamespace>),
    /// A Service.
    Service(Change<Key, LocalService>),
    /// An EndpointSlice with our managed-by label.
    Slice(Change<Key, LocalSlice>),
    /// A Node.
    Node(Change<String, LocalNode>),
    /// A service range of this cluster (ServiceCIDR objects).
    ServiceCidr(Change<String, Vec<ipnet::IpNet>>),
    /// uid of this cluster's own kube-system namespace.
    ClusterUid(String),
    /// This cluster does not serve a kind of ours: its CRD is gone. What was known of it may be old until
    /// it is listed again.
    Unserved(OwnKind),
}

/// The kinds that Heliostat's CRDs define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnKind {
    /// ClusterLinks.
    Links,
    /// MirrorPolicies.
    Policies,
    /// GatewayBindings.
    Bindings,
}

/// A change of one object, or a complete listing.
#[derive(Clone, Debug)]
pub enum Change<K: Ord, V> {
    /// It is now this.
    Set(K, V),
    /// It is gone.
    Gone(K),
    /// These are all there are.
    All(BTreeMap<K, V>),
}

/// What one watch of a link is over: a namespace; none: all of them.
pub type Scope = Option<String>;

/// News of a link, from its session.
#[derive(Clone, Debug)]
pub enum RemoteEvent {
    /// The credentials cannot be used; nothing was dialled.
    Credentials {
        /// `CredentialsNotFound`, `CredentialsRejected` or `CredentialsExpired`.
        reason: Reason,
        /// What is wrong and what to do, without any value of the Secret.
        message: String,
    },
    /// The remote answered: who it is.
    Connected {
        /// uid of its kube-system namespace.
        cluster_uid: String,
        /// Version of its API server.
        server_version: String,
        /// When the credential expires, where it says so.
        credentials_expire_at: Option<Timestamp>,
        /// The API server dialled is this cluster's own.
        own_server: bool,
    },
    /// A complete listing; the uid was the same before and after.
    Listed {
        /// uid of the cluster that was listed.
        cluster_uid: String,
        /// The resourceVersions at which the Services were listed, by the scope of the watch.
        versions: BTreeMap<Scope, String>,
        /// All Services the link sees.
        services: BTreeMap<Key, Origin>,
        /// All EndpointSlices the link sees.
        slices: BTreeMap<Key, RemoteSlice>,
    },
    /// The services of one namespace scope were listed again (after 410 or a lost watch).
    ServicesListed {
        /// uid of the cluster that was listed.
        cluster_uid: String,
        /// The namespace of the watch; none: all namespaces.
        scope: Scope,
        /// The resourceVersion at which they were listed, where it is known.
        version: Option<String>,
        /// All Services of that scope.
        services: BTreeMap<Key, Origin>,
    },
    /// The same for slices.
    SlicesListed {
        /// uid of the cluster that was listed.
        cluster_uid: String,
        /// The namespace of the watch; none: all namespaces.
        scope: Scope,
        /// All EndpointSlices of that scope.
        slices: BTreeMap<Key, RemoteSlice>,
    },
    /// The watch of a scope's Services has come to this resourceVersion, by an event or a bookmark. Told
    /// now and then, and before a listing that may be older.
    Reached {
        /// The namespace of the watch; none: all namespaces.
        scope: Scope,
        /// The resourceVersion.
        version: String,
    },
    /// A Service is now this.
    Service(Key, Box<Origin>),
    /// A Service was deleted, on a healthy watch.
    ServiceGone(Key, String),
    /// A slice is now this.
    Slice(Key, Box<RemoteSlice>),
    /// A slice was deleted.
    SliceGone(Key),
    /// All nodes; or why they cannot be read.
    NodesListed(Result<BTreeMap<String, RemoteNode>, String>),
    /// A node is now this.
    Node(String, RemoteNode),
    /// A node was deleted.
    NodeGone(String),
    /// The remote answered just now (heartbeat), and all watches are running.
    Alive,
    /// The remote does not answer, or not as it should.
    Lost {
        /// Why: `RemoteUnreachable`, `TLSVerificationFailed`, `Unauthorized`, `Forbidden`,
        /// `Throttled`, …
        reason: Reason,
        /// In words.
        message: String,
    },
}

impl RemoteEvent {
    /// A watch told that one object changed. All else is a listing, or is about the connection.
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Service(..)
            | Self::ServiceGone(..)
            | Self::Slice(..)
            | Self::SliceGone(_)
            | Self::Node(..)
            | Self::NodeGone(_) => true,
            Self::Credentials { .. }
            | Self::Connected { .. }
            | Self::Listed { .. }
            | Self::ServicesListed { .. }
            | Self::SlicesListed { .. }
            | Self::NodesListed(_)
            | Self::Reached { .. }
            | Self::Alive
            | Self::Lost { .. } => false,
        }
    }
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write, and answer with [`Input::Written`].
    Write(Write),
    /// What the session of a link is to do from now on.
    Session {
        /// Name of the link.
        link: String,
        /// Its task; none: end it.
        task: Option<SessionTask>,
    },
    /// The hostnames to keep resolved, all of them, and the link that each comes from; empty: this cluster itself.
    Resolve(BTreeMap<String, String>),
    /// The gateway addresses to keep probed, all of them, and how.
    Probe(BTreeMap<Target, ProbeTask>),
    /// Tell a user by an Event.
    Event(Event),
    /// The kinds of objects to follow for the exporter's side, all of them.
    Follow(BTreeSet<Kind>),
    /// What the Envoys of a binding are to do; none: nothing any more, and they are not let in.
    Envoys {
        /// The binding.
        binding: String,
        /// What they are to do.
        config: Option<EnvoyConfig>,
    },
    /// A mirror is as a change in a remote asks for: how long that took, from the moment in which the
    /// session received the change to the answer to the last write. To be measured.
    Propagated(Duration),
}

/// What a link's session reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTask {
    /// uid of the link; another uid is another link.
    pub link_uid: String,
    /// Secret in the controller's namespace.
    pub secret: String,
    /// Key in its data.
    pub key: String,
    /// Label selector as it goes into a query; none: everything.
    pub selector: Option<String>,
    /// Namespaces, one watch each; none: one watch over all.
    pub namespaces: Option<Vec<String>>,
    /// Nodes are needed (NodePort).
    pub nodes: bool,
    /// Most Services taken; beyond, a listing is cut and the link says so.
    pub max_services: u32,
    /// A change of this text asks for a new listing (`heliostat.dev/reconcile-requested-at`).
    pub resync: Option<String>,
}

/// Number of a write; each write has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// A write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Its number.
    pub id: WriteId,
    /// What to write.
    pub op: WriteOp,
}

/// What to write. Creates are POSTs, changes are merge patches that carry uid and
/// resourceVersion, deletes carry both as preconditions.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOp {
    /// Make a mirror.
    CreateService(Key, MirrorService),
    /// Change a mirror.
    PatchService(Key, At, ServicePatch),
    /// Delete a mirror.
    DeleteService(Key, At),
    /// Set or clear `heliostat.dev/Mirrored`; the list goes whole.
    PatchServiceConditions(Key, At, Vec<serde_json::Value>),
    /// Make a slice.
    CreateSlice(Key, MirrorSlice),
    /// Change a slice; the lists go whole.
    PatchSlice(Key, At, MirrorSlice),
    /// Delete a slice.
    DeleteSlice(Key, At),
    /// Make an object of the exporter's side: its version, and all but `apiVersion` and `kind`.
    CreateObject(ObjectId, String, Box<serde_json::Map<String, serde_json::Value>>),
    /// Change one, in this version, by a merge patch that lacks uid and resourceVersion only.
    PatchObject(ObjectId, String, At, Box<serde_json::Map<String, serde_json::Value>>),
    /// Delete one, in this version.
    DeleteObject(ObjectId, String, At),
    /// Replace a link's status.
    LinkStatus(String, At, Box<ClusterLinkStatus>),
    /// Replace a policy's status.
    PolicyStatus(Key, At, Box<MirrorPolicyStatus>),
    /// Replace a binding's status.
    BindingStatus(String, At, Box<GatewayBindingStatus>),
}

/// The object that a write is about, as last observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// uid.
    pub uid: Uid,
    /// resourceVersion.
    pub resource_version: Version,
}

/// A mirror to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorService {
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Annotations,
    /// Owner: (name, uid) of the ClusterLink, under `deletionPolicy: Delete`.
    pub owner: Option<(Text, Text)>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Ports.
    pub ports: List<SlicePort>,
}

/// Changes of a mirror; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServicePatch {
    /// Labels to set (`Some`) or to remove (`None`).
    pub labels: BTreeMap<Text, Option<Text>>,
    /// Annotations to set or to remove.
    pub annotations: BTreeMap<Text, Option<Text>>,
    /// ownerReferences, whole list, rendered.
    pub owners: Option<Vec<serde_json::Value>>,
    /// Ports, whole list.
    pub ports: Option<List<SlicePort>>,
    /// Set `type: ClusterIP`.
    pub cluster_ip_type: bool,
    /// Set `ipFamilyPolicy: PreferDualStack`.
    pub prefer_dual_stack: bool,
    /// Fields of spec to remove, by name.
    pub remove_fields: Vec<Text>,
}

/// A slice to make, or what one should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSlice {
    /// The mirror, in the slice's namespace: (name, uid).
    pub service: (Text, Uid),
    /// What it says.
    pub body: SliceBody,
}

/// How a write went.
#[derive(Clone, Debug)]
pub enum Written {
    /// The Service as the API server has it now.
    Service(LocalService),
    /// The slice as the API server has it now.
    Slice(LocalSlice),
    /// A status was written; the object's resourceVersion now.
    Status(String),
    /// The object as the API server has it now, as [`ExportNews::Objects`] tells it.
    Object(Box<serde_json::Value>),
    /// The object is gone, or is on its way out.
    Deleted,
}

/// How a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// What kind of failure.
    pub kind: WriteFailure,
    /// What the API server said, cut and cleaned for a user.
    pub message: String,
    /// `Retry-After`, where the API server said so.
    pub retry_after: Option<Duration>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// POST: there is an object of that name (409 AlreadyExists).
    AlreadyExists,
    /// The object changed meanwhile (409 Conflict).
    Conflict,
    /// The object is gone (404).
    NotFound,
    /// 403, by RBAC, quota or admission, or a terminating namespace.
    Forbidden,
    /// 422 or 400: the API server does not accept the object.
    Invalid,
    /// Anything that may pass: 429, 5xx, network.
    Transient,
}

/// An Event for `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The object it is about.
    pub about: About,
    /// Something is wrong.
    pub warning: bool,
    /// Reason, one word.
    pub reason: &'static str,
    /// What was being done, one word: `Mirroring`, `Connecting`, …
    pub action: &'static str,
    /// In words, at most 1 KiB.
    pub note: String,
}

/// An object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A link: (name, uid).
    Link(String, String),
    /// A policy: (key, uid).
    Policy(Key, String),
    /// A binding: (name, uid).
    Binding(String, String),
    /// A mirror: (key, uid).
    Service(Key, String),
}

impl WriteOp {
    /// The Service or slice that a write is about.
    pub fn object(&self) -> Option<&Key> {
        match self {
            Self::CreateService(key, _)
            | Self::PatchService(key, ..)
            | Self::DeleteService(key, _)
            | Self::PatchServiceConditions(key, ..)
            | Self::CreateSlice(key, _)
            | Self::PatchSlice(key, ..)
            | Self::DeleteSlice(key, _) => Some(key),
            Self::CreateObject(id, ..) | Self::PatchObject(id, ..) | Self::DeleteObject(id, ..) => Some(&id.key),
            Self::LinkStatus(..) | Self::PolicyStatus(..) | Self::BindingStatus(..) => None,
        }
    }
}
