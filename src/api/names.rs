//! Every label, annotation and fixed value that users, manifests in Git or other clusters may
//! depend on, written once. Nothing else in the program may spell one of them.

/// Label on a Service: with the value [`EXPORT_VALUE`] its owner consents to its export.
pub const EXPORT_LABEL: &str = "heliostat.dev/export";
/// The value of [`EXPORT_LABEL`] that means consent; any other value means none.
pub const EXPORT_VALUE: &str = "true";

/// Label on a Service of an exporter's controller: with the value [`PROBE_VALUE`] it answers the
/// importers' probes with its cluster's uid. It goes out through every gateway that can carry it, and
/// is mirrored nowhere.
pub const PROBE_LABEL: &str = "heliostat.dev/probe";
/// The value of [`PROBE_LABEL`] that means so.
pub const PROBE_VALUE: &str = "true";
/// Where that Service answers.
pub const PROBE_PATH: &str = "/probe";

/// Label on every mirror; with the value [`MANAGER`] the first of the two markers of ownership.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on what Heliostat makes.
pub const MANAGER: &str = "heliostat";
/// The field manager of every write.
pub const FIELD_MANAGER: &str = "heliostat";

/// Label on a mirror: the name of its link.
pub const LINK_LABEL: &str = "heliostat.dev/link";
/// Label on a mirror: the name of the policy that asked for it.
pub const POLICY_LABEL: &str = "heliostat.dev/policy";
/// Label on a mirror: the namespace of the policy that asked for it.
pub const POLICY_NAMESPACE_LABEL: &str = "heliostat.dev/policy-namespace";
/// Annotation on a mirror: the uid of its link; the second of the two markers of ownership.
pub const LINK_UID_ANNOTATION: &str = "heliostat.dev/link-uid";
/// Annotation on a mirror: `<namespace>/<name>` of its origin.
pub const ORIGIN_ANNOTATION: &str = "heliostat.dev/origin";
/// Annotation on a mirror: the uid of its origin.
pub const ORIGIN_UID_ANNOTATION: &str = "heliostat.dev/origin-uid";
/// Annotation on a mirror: its way, `Service`, `Direct` or `Gateway/<binding>`.
pub const VIA_ANNOTATION: &str = "heliostat.dev/via";
/// Annotation on a mirror: the keys of the labels copied from the origin, sorted and
/// comma-separated; absent when there are none. Tells a later policy which keys are ours to remove.
pub const COPIED_LABELS_ANNOTATION: &str = "heliostat.dev/copied-labels";
/// Annotation on a mirror: the same as [`COPIED_LABELS_ANNOTATION`], for annotations.
pub const COPIED_ANNOTATIONS_ANNOTATION: &str = "heliostat.dev/copied-annotations";
/// Type of the condition on a mirror, present (as False) only while it has no way or is stale.
pub const MIRRORED_CONDITION: &str = "heliostat.dev/Mirrored";

/// Annotation on a ClusterLink: a new value asks for a full resync; it is echoed in
/// `status.lastHandledReconcileAt`.
pub const RECONCILE_REQUESTED_ANNOTATION: &str = "heliostat.dev/reconcile-requested-at";
/// Annotation on a ClusterLink: the uid of a former link whose mirrors this one takes over.
pub const ADOPT_ANNOTATION: &str = "heliostat.dev/adopt";
/// Annotation on a ClusterLink: the token from the message of `DeletionHeld`, which lets exactly
/// the held deletions through.
pub const ALLOW_DELETION_ANNOTATION: &str = "heliostat.dev/allow-deletion";

/// Annotation on what `heliostat link` makes in the exporter: the uid of the importer's kube-system
/// namespace. With [`LINK_LABEL`] it says whose account it is.
pub const IMPORTER_UID_ANNOTATION: &str = "heliostat.dev/importer-uid";
/// Annotation on the importer's Secret: `<namespace>/<name>` of the ServiceAccount in the exporter
/// whose token it holds.
pub const EXPORTER_ACCOUNT_ANNOTATION: &str = "heliostat.dev/exporter-account";
/// Annotation on the importer's Secret: the kubeconfig context by which the exporter was reached,
/// so that `heliostat unlink` can find it again.
pub const EXPORTER_CONTEXT_ANNOTATION: &str = "heliostat.dev/exporter-context";

/// Kubernetes' label on an EndpointSlice: the Service whose endpoints it holds.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Kubernetes' label on an EndpointSlice: who writes it.
pub const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`SLICE_MANAGED_BY_LABEL`] on a mirror's slices.
pub const SLICE_MANAGER: &str = "heliostat.dev";
/// Kubernetes' annotation on an EndpointSlice: when the change that caused the last update happened.
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Linkerd's annotation on an EndpointSlice: the TLS identity that the gateway behind its addresses
/// must prove. Its destination controller hands it to the proxies of meshed clients.
pub const LINKERD_IDENTITY_ANNOTATION: &str = "mirror.linkerd.io/remote-gateway-identity";
/// Linkerd's annotation on an EndpointSlice: the Service's full name in its own cluster, by which
/// the gateway tells services apart; the proxies add the port that the client has called.
pub const LINKERD_SERVICE_ANNOTATION: &str = "mirror.linkerd.io/remote-svc-fq-name";
/// Kubernetes' label on a Service or slice: which proxy serves it; with a value of ours, kube-proxy
/// leaves the object alone.
pub const SERVICE_PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// The value of [`SERVICE_PROXY_NAME_LABEL`] on a published slice.
pub const SERVICE_PROXY_NAME: &str = "heliostat.dev";
/// Kubernetes' label on the slices of a headless Service; kube-proxy's watch leaves those out too.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The value of [`SLICE_MANAGED_BY_LABEL`] on a published slice.
pub const PUBLISHED_MANAGER: &str = "gateway.heliostat.dev";
/// Label on a published slice: the exported Service.
pub const PUBLISHED_SERVICE_LABEL: &str = "heliostat.dev/service-name";
/// Label on a published slice: the binding that published it.
pub const PUBLISHED_BINDING_LABEL: &str = "heliostat.dev/binding";
/// Annotation on the pods of Heliostat's own gateways: a hash of the files that they started with.
pub const BOOTSTRAP_ANNOTATION: &str = "heliostat.dev/bootstrap";
/// Annotation on a published slice: the version of the contract that it follows.
pub const CONTRACT_ANNOTATION: &str = "heliostat.dev/contract";
/// The one known value of [`CONTRACT_ANNOTATION`].
pub const CONTRACT_V1: &str = "v1";
/// Annotation on a published slice: how the gateway tells services apart.
pub const ROUTING_ANNOTATION: &str = "heliostat.dev/routing";
/// Annotation on a published slice: the names the gateway answers to, comma-separated (Host, SNI).
pub const HOSTNAMES_ANNOTATION: &str = "heliostat.dev/hostnames";
/// Annotation on a published slice: for how long an unconfirmed port may be used (Port); a Go
/// duration. On the slices of a mirror that it feeds the same, in whole seconds: a controller that
/// starts while the exporter is away must know it.
pub const PORT_LEASE_ANNOTATION: &str = "heliostat.dev/port-lease";
/// Linkerd's annotation on the Service of its multicluster gateway: that gateway's TLS identity.
pub const LINKERD_GATEWAY_IDENTITY_ANNOTATION: &str = "mirror.linkerd.io/gateway-identity";
/// Annotation on a published slice: the gateway's TLS identity (Linkerd).
pub const GATEWAY_IDENTITY_ANNOTATION: &str = "heliostat.dev/gateway-identity";
