//! What is said of a link.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    condition::{Conditions, Truth, clean, no, whole_seconds, yes},
    count::{Counted, number},
};
use crate::{
    api::{
        ConditionType, MAX_NAME, MAX_TEXT, Reason,
        link::{ClusterLinkStatus, LinkServiceCounts},
    },
    core::{
        engine::Engine,
        link::{Connection, Link, Loss},
        model::Key,
        select::{self, Refusal},
    },
};

impl Engine {
    /// A link's status; none while it is too early to say anything new.
    pub(super) fn link_status(&self, name: &str, link: &Link) -> Option<ClusterLinkStatus> {
        let before = link.object.status.clone().unwrap_or_default();
        let generation = link.object.metadata.generation;
        let own = self.world.cluster_uid.as_deref();
        let remote = &link.remote;
        let suspended = link.object.spec.suspend;
        let starting = remote.connection == Connection::Starting && !suspended && link.checked.is_ok();
        let was_synced =
            before.conditions.iter().any(|c| c.type_ == ConditionType::Synced.as_str() && c.status == "True");
        if link.object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let listing = remote.connection == Connection::Listing && !remote.listed && !link.frozen(own);
        if before.observed_generation == generation && (starting || listing && was_synced) {
            return None;
        }
        let stalled = self.link_stalled(name, link);
        let mut c = Conditions::new(&before.conditions, generation, self.now);
        self.say_link_ready(&mut c, link, stalled.as_ref());
        match (&link.checked, &stalled) {
            (Err(refusal), _) => c.say(ConditionType::Accepted, no(refusal)),
            (_, Some(refusal)) if refusal.reason == Reason::SelfLink => c.say(ConditionType::Accepted, no(refusal)),
            _ if suspended => c.say(
                ConditionType::Accepted,
                yes(Reason::Suspended, "spec.suspend is set: the remote is not read and everything stays as it is"),
            ),
            _ => c.say(ConditionType::Accepted, yes(Reason::Accepted, self.accepted_message(name, link))),
        }
        say_link_connection(&mut c, link, stalled.as_ref());
        self.say_reachable(&mut c, name, link, None);
        self.say_held(&mut c, name, link);
        let reconciling = (!suspended && stalled.is_none() && !remote.listed && before.last_sync_time.is_none())
            .then_some("the first complete listing of the remote is awaited");
        let conditions = c.finish(stalled.as_ref(), reconciling);
        Some(ClusterLinkStatus {
            observed_generation: generation,
            conditions,
            cluster_uid: remote.pinned_uid.as_deref().map(|uid| clean(uid, MAX_NAME)),
            server_version: remote.server_version.as_deref().map(|version| clean(version, MAX_NAME)),
            credentials_expire_at: remote.credentials_expire_at.map(|t| Time(whole_seconds(t))),
            services: if remote.listed { Some(self.link_counts(name, link)) } else { before.services },
            gateways: self.gateway_list(name, link, &before.gateways),
            // It moves only when Synced turns True, so not by a restart in between.
            last_sync_time: if was_synced {
                before.last_sync_time
            } else {
                remote.last_sync.map(|t| Time(whole_seconds(t)))
            },
            last_handled_reconcile_at: remote.handled_reconcile.as_deref().map(|token| clean(token, MAX_TEXT)),
        })
    }

    /// What a human must change in this very link, if anything.
    fn link_stalled(&self, name: &str, link: &Link) -> Option<Refusal> {
        if let Err(refusal) = &link.checked {
            return Some(refusal.clone());
        }
        if link.self_link(self.world.cluster_uid.as_deref()) {
            let message = format!(
                "link {name} leads to this cluster itself; point the kubeconfig in Secret {} at another cluster",
                link.object.spec.kubeconfig_secret_ref.name
            );
            return Some(Refusal::new(Reason::SelfLink, message));
        }
        if link.identity_changed() {
            let seen = link.remote.observed_uid.as_deref().unwrap_or_default();
            let expected = link.expected_uid().unwrap_or_default();
            return Some(Refusal::new(
                Reason::RemoteIdentityChanged,
                format!(
                    "another cluster answers: its kube-system has uid {seen}, not {expected}; nothing is changed until it is the old one again, or you set spec.clusterUID to {seen} to accept the new one"
                ),
            ));
        }
        match &link.remote.connection {
            Connection::Credentials(refusal) if refusal.reason == Reason::CredentialsRejected => Some(refusal.clone()),
            _ => None,
        }
    }

    fn say_link_ready(&self, c: &mut Conditions<'_>, link: &Link, stalled: Option<&Refusal>) {
        let remote = &link.remote;
        let not_yet = |why: String| (Truth::False, Reason::InitialSync, why);
        match (stalled, &remote.connection) {
            (Some(refusal), _) => c.say(ConditionType::Ready, no(refusal)),
            (None, _) if link.object.spec.suspend => {
                c.keep(
                    ConditionType::Ready,
                    (Truth::False, Reason::Suspended, "spec.suspend was set before the first listing".into()),
                );
            }
            (None, Connection::Credentials(refusal)) => c.say(ConditionType::Ready, no(refusal)),
            (None, Connection::Synced) => {
                c.say(ConditionType::Ready, yes(Reason::Ready, "the remote's state is known and applied"))
            }
            (None, _) if matches!(link.loss(self.now), Loss::Act(_)) && remote.last_sync.is_some() => {
                let since = remote.unknown_since.map(|t| whole_seconds(t).to_string()).unwrap_or_default();
                let action = link.object.spec.on_loss.action;
                let message = format!(
                    "the remote's state has been unknown since {since}, longer than spec.onLoss.after ({}); action {action:?} is in force",
                    link.object.spec.on_loss.after
                );
                c.say(ConditionType::Ready, (Truth::False, Reason::Stale, message));
            }
            (None, Connection::Lost(refusal)) if remote.last_sync.is_none() => {
                c.say(ConditionType::Ready, not_yet(format!("no complete listing yet: {}", refusal.message)))
            }
            (None, _) if remote.last_sync.is_none() => {
                c.say(ConditionType::Ready, not_yet("the first complete listing of the remote is awaited".into()))
            }
            (None, _) => c.keep(ConditionType::Ready, not_yet("a complete listing of the remote is awaited".into())),
        }
    }

    fn accepted_message(&self, name: &str, link: &Link) -> String {
        let uid = link.expected_uid();
        let twin =
            self.world.links.iter().find(|(other, l)| *other != name && uid.is_some() && l.expected_uid() == uid);
        match twin {
            Some((other, _)) => format!("the spec is accepted; note that link {other} leads to the same cluster"),
            None => "the spec is accepted".into(),
        }
    }

    fn link_counts(&self, name: &str, link: &Link) -> LinkServiceCounts {
        let mut best: BTreeMap<&Key, Counted> = BTreeMap::new();
        for (id, claim) in self.claims.of_link(name) {
            let counted = self.counted(id, claim);
            let entry = best.entry(&id.origin).or_insert(counted);
            *entry = (*entry).max(counted);
        }
        let count = |wanted: Counted| number(best.values().filter(|c| **c == wanted).count());
        LinkServiceCounts {
            seen: number(link.remote.services.values().filter(|origin| !select::is_probe(&origin.labels)).count()),
            // What is held is still there, though its origin is not seen.
            mirrored: count(Counted::Mirrored).saturating_add(number(link.guard.held().len())),
            skipped: count(Counted::Skipped),
            conflicted: count(Counted::Conflicted),
        }
    }
}

fn say_link_connection(c: &mut Conditions<'_>, link: &Link, stalled: Option<&Refusal>) {
    let remote = &link.remote;
    let pending = |what: &str| (Truth::Unknown, Reason::Pending, format!("{what} has not been tried yet"));
    match &remote.connection {
        Connection::Credentials(refusal) => c.say(ConditionType::CredentialsValid, no(refusal)),
        Connection::Lost(refusal) if refusal.reason == Reason::Unauthorized => {
            c.say(ConditionType::CredentialsValid, no(refusal))
        }
        Connection::Starting => c.keep(ConditionType::CredentialsValid, pending("the credential")),
        _ => c.say(ConditionType::CredentialsValid, yes(Reason::Valid, "the kubeconfig is accepted")),
    }
    let lost_before = c.was(ConditionType::Connected).is_some_and(|was| was.status == "False");
    let stale = |why: &str| (Truth::False, Reason::Stale, format!("the last listing is not followed any more: {why}"));
    let (connected, synced) = match (&remote.connection, stalled) {
        _ if link.object.spec.suspend => {
            let message = "spec.suspend is set: the remote is not read";
            (
                Some((Truth::Unknown, Reason::Suspended, message.into())),
                Some((Truth::Unknown, Reason::Suspended, message.into())),
            )
        }
        (_, Some(refusal)) if refusal.reason != Reason::InvalidSpec => {
            (Some(no(refusal)), Some(stale(&refusal.message)))
        }
        (Connection::Starting, _) => (None, None),
        (Connection::Listing, _) if lost_before => (None, None),
        (Connection::Listing, _) => {
            let message = "the first complete listing of the remote is awaited";
            (
                Some(yes(Reason::Connected, "the remote answers")),
                Some((Truth::False, Reason::InitialSync, message.into())),
            )
        }
        (Connection::Synced, _) => (
            Some(yes(Reason::Connected, "the remote answers")),
            Some(yes(Reason::InSync, "a complete listing has been taken over and is followed")),
        ),
        (Connection::Credentials(refusal) | Connection::Lost(refusal), _) if remote.last_sync.is_none() => (
            Some(no(refusal)),
            Some((Truth::False, Reason::InitialSync, "there has been no complete listing yet".into())),
        ),
        (Connection::Credentials(refusal) | Connection::Lost(refusal), _) => {
            (Some(no(refusal)), Some(stale(&refusal.message)))
        }
    };
    match connected {
        Some(says) => c.say(ConditionType::Connected, says),
        None => c.keep(ConditionType::Connected, pending("the connection")),
    }
    match synced {
        Some(says) => c.say(ConditionType::Synced, says),
        None => c.keep(
            ConditionType::Synced,
            (Truth::False, Reason::InitialSync, "there has been no complete listing yet".into()),
        ),
    }
}
