//! Condition types and reasons: each name once, with when it is set and for which kind.
//!
//! Every condition also has a message that says object, field, value and next step; the messages
//! are written where the decision is made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enum whose variants are the API's own spelling of themselves.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of the declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name as it stands in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// The value of that name, if there is one; the inverse of [`Self::as_str`].
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

names! {
    /// The types of conditions, in the order in which a status lists them.
    ///
    /// Kstatus-clean: `Stalled` and `Reconciling` are present only while they are True.
    ConditionType {
        /// All kinds; present only while True: a human must change this very object
        /// (`InvalidSpec`, `CredentialsRejected`, `RemoteIdentityChanged`, `SelfLink`). Never for
        /// a transient outage, nor for a Secret that isn't there yet.
        Stalled,
        /// All kinds; present only while True: a change is being worked on (`Reconciling`).
        Reconciling,
        /// All kinds. ClusterLink: accepted, credentials valid, remote state known within
        /// `onLoss.after`. MirrorPolicy: accepted, refs resolved, every match decided and its
        /// writes acknowledged (skips and conflicts are counted, they don't make it False).
        /// GatewayBinding: accepted, refs resolved, address known, no route pending for more than
        /// a minute.
        Ready,
        /// All kinds: the spec is one the controller works by. Under suspend and preview it also
        /// carries that reason.
        Accepted,
        /// ClusterLink: the kubeconfig was read, understood and not turned away by the remote.
        CredentialsValid,
        /// ClusterLink: the remote answered within the last 20 seconds; True again only after a
        /// complete sync; Unknown while suspended.
        Connected,
        /// ClusterLink: what is known of the remote is complete and current.
        Synced,
        /// MirrorPolicy, GatewayBinding: the links, bindings and objects named in the spec exist
        /// and may be used. A selector that matches no link is resolved.
        ResolvedRefs,
        /// MirrorPolicy: what was decided has been written (with preview: the message says what
        /// would be). GatewayBinding: the gateway carries the routes.
        Programmed,
        /// ClusterLink, GatewayBinding (`import`): the gateway addresses in use answer; absent while
        /// nothing is probed. Unknown while nothing answers anywhere: it may be the controller that is
        /// cut off.
        Reachable,
        /// ClusterLink: deletions are held back by the guard; the message carries the token that
        /// lets them through. Present only while True.
        DeletionHeld,
    }
}

names! {
    /// The reasons of conditions, and of entries in `status.failures`.
    Reason {
        /// `Accepted=True`, all kinds: the spec is valid.
        Accepted,
        /// `Ready=True`, all kinds.
        Ready,
        /// `CredentialsValid=True`, ClusterLink.
        Valid,
        /// `Connected=True`, ClusterLink.
        Connected,
        /// `ResolvedRefs=True`, MirrorPolicy and GatewayBinding.
        Resolved,
        /// `Programmed=True`, MirrorPolicy and GatewayBinding.
        Programmed,
        /// `Reachable=True`, ClusterLink and GatewayBinding.
        Reachable,
        /// `Reachable=False`, ClusterLink and GatewayBinding: as many probes in a row failed as
        /// `probe.failureThreshold` says; the message names address, binding and why.
        /// `Reachable=Unknown`: those of every gateway address of every link did.
        Unreachable,
        /// `Programmed=False` or `Ready=False`, MirrorPolicy and GatewayBinding: waiting for the
        /// gateway or for a write to be acknowledged.
        Pending,
        /// `Reconciling=True`, all kinds; `Ready=Unknown` before the first verdict.
        Reconciling,
        /// `Accepted=False` and `Stalled=True`, all kinds: a rule that the schema can't know is
        /// broken; the message names field and value.
        InvalidSpec,
        /// `Accepted=False`, all kinds: a value that this version doesn't support. In failures: a
        /// published slice of an unknown contract version.
        UnsupportedValue,
        /// `CredentialsValid=False`, ClusterLink: the Secret, or the key in it, isn't there (yet).
        CredentialsNotFound,
        /// `CredentialsValid=False` and `Stalled=True`, ClusterLink: the kubeconfig has what is not
        /// allowed, names a forbidden server, or isn't one; the message names the field, never its
        /// value.
        CredentialsRejected,
        /// `CredentialsValid=False`, ClusterLink: the client certificate or token has run out.
        CredentialsExpired,
        /// `CredentialsValid=False` and `Connected=False`, ClusterLink: the remote answers 401.
        Unauthorized,
        /// `Synced=False`, ClusterLink: the remote answers 403; the message names verb and resource.
        /// In failures: this cluster's API server refused a write.
        Forbidden,
        /// `Connected=False`, ClusterLink: no connection, or silence for 20 seconds.
        RemoteUnreachable,
        /// `Connected=False`, ClusterLink: the server's certificate isn't the one the kubeconfig
        /// asks for.
        TLSVerificationFailed,
        /// `Connected=False` and `Stalled=True`, ClusterLink: another cluster answers behind the
        /// URL; everything is frozen until `spec.clusterUID` says the new uid.
        RemoteIdentityChanged,
        /// `Accepted=False` and `Stalled=True`, ClusterLink: it leads to this very cluster.
        SelfLink,
        /// `Ready=False` and `Synced=False`: the first complete listing isn't there yet.
        InitialSync,
        /// `Synced=True`, ClusterLink.
        InSync,
        /// `Synced=False`, and `Ready=False` after `onLoss.after`, ClusterLink: the remote's state
        /// is not known to be current. On a mirror's `heliostat.dev/Mirrored=False`: its addresses
        /// are marked not ready for that.
        Stale,
        /// `Synced=False`, ClusterLink: the remote answers 429. In failures: this cluster's does.
        Throttled,
        /// In failures, counted as conflicted: the name belongs to somebody else, or to another
        /// claim of ours; the message names the holder.
        NameConflict,
        /// In failures: the rendered name is not a DNS-1035 label.
        InvalidName,
        /// In failures: the mirror's namespace doesn't exist; it is not created.
        NamespaceMissing,
        /// In failures: the mirror's namespace is being deleted.
        NamespaceTerminating,
        /// In failures: a namespace that is never written to or read from (kube-*, the
        /// controller's own, `default/kubernetes`).
        NamespaceNotAllowed,
        /// In failures: an origin of a type that can't be mirrored (ExternalName, no ports).
        InvalidServiceType,
        /// In failures, counted as mirrored, and on the mirror's `heliostat.dev/Mirrored=False`:
        /// none of the wanted ways yields an address.
        NoRoute,
        /// In failures: the origin has no endpoints to be found, or none that is ready.
        NoEndpoints,
        /// In failures: an address was left out because it lies in a forbidden range; the message
        /// names the rule.
        AddressDenied,
        /// In failures: ports that the way can't carry are missing from the slices.
        PortUnsupported,
        /// GatewayBinding, in failures and on `Programmed=False`: no port is free in the range.
        PortsExhausted,
        /// In failures, counted as mirrored: a headless origin mirrored as ClusterIP, because only
        /// Direct carries per-pod names.
        PerPodNamesUnavailable,
        /// In failures: a limit of the link, or a quota of the namespace, is reached.
        QuotaExceeded,
        /// `DeletionHeld=True`, ClusterLink: complete listings lack the origins of too many mirrors, or are
        /// older than what was seen; the message says the token that lets them go. In failures, counted
        /// as mirrored: such a mirror.
        DeletionHeld,
        /// `Accepted=True`, all kinds, and `Connected=Unknown`, ClusterLink: `spec.suspend`.
        Suspended,
        /// `Accepted=True` and `Programmed`, MirrorPolicy: `spec.preview`.
        Preview,
        /// `ResolvedRefs=False`, MirrorPolicy and GatewayBinding: a named object doesn't exist.
        RefNotFound,
        /// `ResolvedRefs=False`, MirrorPolicy: a named link doesn't admit this namespace, or
        /// doesn't exist (a tenant can't tell which). GatewayBinding: the Gateway doesn't allow
        /// our listeners; the message names the line to add.
        RefNotPermitted,
        /// In failures: the mirror's name is not among the gateway's published hostnames.
        HostnameMismatch,
        /// `ResolvedRefs=False`, GatewayBinding: the provider's CRDs are not installed.
        ProviderNotInstalled,
        /// `Accepted=False`, GatewayBinding: plaintext routing would answer on a public address
        /// without `exposure: Public`.
        PublicPlaintext,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_for_serde_display_and_parse() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(reason.to_string(), reason.as_str());
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        for condition in ConditionType::ALL {
            assert_eq!(serde_json::to_value(condition).unwrap(), condition.as_str());
            assert_eq!(ConditionType::parse(condition.as_str()), Some(*condition));
        }
        assert_eq!(Reason::parse("ready"), None);
        assert_eq!(ConditionType::parse(""), None);
    }

    #[test]
    fn conditions_are_declared_in_the_order_of_a_status() {
        assert!(ConditionType::ALL.is_sorted());
        assert_eq!(ConditionType::ALL.first(), Some(&ConditionType::Stalled));
        assert_eq!(ConditionType::ALL.last(), Some(&ConditionType::DeletionHeld));
    }
}
