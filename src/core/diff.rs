//! From what should be and what is to the next write. One write at a time a mirror: after each
//! the state is looked at again, so that a crash between any two is like no crash.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Unit, fmt::temporal::DateTimePrinter};
use serde_json::{Value, json};

use super::{
    copy,
    io::{At, MirrorService, MirrorSlice, ServicePatch, WriteOp},
    model::{Annotations, Key, LocalService, LocalSlice, Map, MirrorState, SliceBody, Text, Uid},
    select::Refusal,
};
use crate::api::{
    GROUP, VERSION,
    names::{
        COPIED_ANNOTATIONS_ANNOTATION, COPIED_LABELS_ANNOTATION, LINK_LABEL, LINK_UID_ANNOTATION, MANAGED_BY_LABEL,
        MANAGER, MIRRORED_CONDITION, ORIGIN_ANNOTATION, ORIGIN_UID_ANNOTATION, POLICY_LABEL, POLICY_NAMESPACE_LABEL,
        VIA_ANNOTATION,
    },
};

/// Labels that we set on mirrors besides copied ones.
const OUR_LABELS: &[&str] = &[MANAGED_BY_LABEL, LINK_LABEL, POLICY_LABEL, POLICY_NAMESPACE_LABEL];
/// Annotations that we set on mirrors besides copied ones.
const OUR_ANNOTATIONS: &[&str] = &[
    LINK_UID_ANNOTATION,
    ORIGIN_ANNOTATION,
    ORIGIN_UID_ANNOTATION,
    VIA_ANNOTATION,
    COPIED_LABELS_ANNOTATION,
    COPIED_ANNOTATIONS_ANNOTATION,
];

/// A mirror as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The Service.
    pub service: MirrorService,
    /// Its slices, by name.
    pub slices: BTreeMap<String, SliceBody>,
    /// `heliostat.dev/Mirrored` is False, for this.
    pub unwell: Option<Refusal>,
    /// Something that decides about it is not known since the start: what there is stays.
    pub undecided: bool,
}

/// The object as last observed.
pub fn at(service: &LocalService) -> At {
    At { uid: service.uid.clone(), resource_version: service.resource_version.clone() }
}

fn slice_at(slice: &LocalSlice) -> At {
    At { uid: slice.uid.clone(), resource_version: slice.resource_version.clone() }
}

/// The next write towards a mirror that exists and is ours: the Service, then new and changed
/// slices, then slices that are no longer wanted, then its condition.
pub fn next<'a>(
    key: &Key,
    observed: &LocalService,
    state: &MirrorState,
    slices: impl Iterator<Item = (Key, &'a LocalSlice)>,
    desired: &Desired,
    now: Timestamp,
) -> Option<WriteOp> {
    if let Some(patch) = service_patch(state, &desired.service) {
        return Some(WriteOp::PatchService(key.clone(), at(observed), patch));
    }
    let existing: BTreeMap<Key, &LocalSlice> = slices.collect();
    for (name, body) in &desired.slices {
        let slice_key = Key::new(&key.namespace, name);
        let slice = || MirrorSlice { service: (key.name.clone(), observed.uid.clone()), body: body.clone() };
        match existing.get(&slice_key) {
            None => return Some(WriteOp::CreateSlice(slice_key, slice())),
            Some(there) if there.terminating => return None,
            Some(there) if there.alien_type.is_some() => return Some(WriteOp::DeleteSlice(slice_key, slice_at(there))),
            Some(there) if !slice_right(there, &observed.uid, body) => {
                return Some(WriteOp::PatchSlice(slice_key, slice_at(there), slice()));
            }
            Some(_) => {}
        }
    }
    let surplus =
        existing.iter().find(|(slice, there)| !there.terminating && !desired.slices.contains_key(slice.name.as_str()));
    if let Some((slice, there)) = surplus {
        return Some(WriteOp::DeleteSlice(slice.clone(), slice_at(there)));
    }
    condition_patch(key, observed, state, desired.unwell.as_ref(), now)
}

fn slice_right(there: &LocalSlice, service_uid: &Uid, body: &SliceBody) -> bool {
    // Destructured, so that what is new of a body cannot be forgotten here.
    let SliceBody { endpoints, trigger_time: _, common } = body;
    let same = there.body.endpoints == *endpoints && there.body.common == *common;
    same && there.service_owner == *service_uid && !there.other_owners && !there.alien_fields
}

/// Sets or clears `heliostat.dev/Mirrored`.
pub fn condition_patch(
    key: &Key,
    observed: &LocalService,
    state: &MirrorState,
    unwell: Option<&Refusal>,
    now: Timestamp,
) -> Option<WriteOp> {
    let same = match (state.mirrored(), unwell) {
        (None, None) => true,
        (Some(there), Some(wanted)) => there.reason == wanted.reason.as_str() && there.message == wanted.message,
        _ => false,
    };
    if same {
        return None;
    }
    let mut list = state.other_conditions().to_vec();
    if let Some(wanted) = unwell {
        let since = state.mirrored().map_or(now, |there| there.since);
        list.push(json!({
            "type": MIRRORED_CONDITION,
            "status": "False",
            "reason": wanted.reason.as_str(),
            "message": wanted.message,
            "lastTransitionTime": rfc3339(since),
        }));
    }
    Some(WriteOp::PatchServiceConditions(key.clone(), at(observed), list))
}

/// Whole seconds, in UTC, as Kubernetes writes times.
fn rfc3339(time: Timestamp) -> String {
    let whole = time.round(Unit::Second).unwrap_or(time);
    DateTimePrinter::new().timestamp_to_string(&whole)
}

/// What must change of the Service itself, if anything.
fn service_patch(state: &MirrorState, desired: &MirrorService) -> Option<ServicePatch> {
    let ports_right = state.ports.len() == desired.ports.len()
        && state.ports.iter().zip(&desired.ports).all(|(there, wanted)| there.target_is_port && there.port == *wanted);
    let patch = ServicePatch {
        labels: map_patch(&state.labels, &desired.labels, &listed(state, COPIED_LABELS_ANNOTATION), OUR_LABELS),
        annotations: annotations_patch(state, &desired.annotations),
        owners: (*state.link_owners != *desired.owner.as_slice()).then(|| owners(state, desired.owner.as_ref())),
        ports: (!ports_right || state.service_type != "ClusterIP").then(|| desired.ports.clone()),
        cluster_ip_type: state.service_type != "ClusterIP",
        prefer_dual_stack: !state.prefers_dual_stack,
        remove_fields: state.foreign_fields().to_vec(),
    };
    (patch != ServicePatch::default()).then_some(patch)
}

/// Keys that an earlier plan copied, as the mirror itself records them. The record may have been
/// edited: keys that can never have been copied are not believed.
fn listed<'a>(state: &'a MirrorState, record: &str) -> BTreeSet<&'a str> {
    let keys = state.annotations.others().get(record).map(Text::as_str).unwrap_or_default();
    keys.split(',').filter(|key| !key.is_empty() && copy::may_be_copied(key)).collect()
}

fn map_patch(there: &Map, wanted: &Map, copied: &BTreeSet<&str>, ours: &[&str]) -> BTreeMap<Text, Option<Text>> {
    if there == wanted {
        return BTreeMap::new();
    }
    let set =
        wanted.iter().filter(|(key, value)| there.get(key) != Some(value)).map(|(k, v)| (k.clone(), Some(v.clone())));
    let mine = |key: &&Text| copied.contains(key.as_str()) || ours.contains(&key.as_str());
    let gone = there.keys().filter(mine).filter(|key| !wanted.contains_key(key)).map(|key| (key.clone(), None));
    set.chain(gone).collect()
}

fn annotations_patch(state: &MirrorState, wanted: &Annotations) -> BTreeMap<Text, Option<Text>> {
    if state.annotations == *wanted {
        return BTreeMap::new();
    }
    let copied = listed(state, COPIED_ANNOTATIONS_ANNOTATION);
    map_patch(&(&state.annotations).into(), &wanted.into(), &copied, OUR_ANNOTATIONS)
}

/// The whole ownerReferences list with or without the link.
fn owners(state: &MirrorState, owner: Option<&(Text, Text)>) -> Vec<Value> {
    let link = owner.map(|(name, uid)| json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ClusterLink", "name": name, "uid": uid}));
    state.other_owners().iter().cloned().chain(link).collect()
}

/// Takes everything of ours off a Service that somebody took over: our slices first, then our
/// condition, our keys and our ownerReference (else Kubernetes would collect it with the link).
pub fn let_go<'a>(
    key: &Key,
    observed: &LocalService,
    state: &MirrorState,
    mut slices: impl Iterator<Item = (Key, &'a LocalSlice)>,
    now: Timestamp,
) -> Option<WriteOp> {
    if let Some((slice, there)) = slices.find(|(_, there)| !there.terminating) {
        return Some(WriteOp::DeleteSlice(slice, slice_at(there)));
    }
    if let Some(op) = condition_patch(key, observed, state, None, now) {
        return Some(op);
    }
    let nothing = Map::new();
    let mut labels = map_patch(&state.labels, &nothing, &listed(state, COPIED_LABELS_ANNOTATION), OUR_LABELS);
    if state.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by != MANAGER) {
        labels.remove(MANAGED_BY_LABEL);
    }
    let patch = ServicePatch {
        labels,
        annotations: annotations_patch(state, &Annotations::default()),
        owners: (!state.link_owners.is_empty()).then(|| owners(state, None)),
        ..ServicePatch::default()
    };
    (patch != ServicePatch::default()).then(|| WriteOp::PatchService(key.clone(), at(observed), patch))
}

/// Marks the endpoints of a mirror not ready whose remote cannot be read, from what is there.
pub fn not_ready<'a>(
    key: &Key,
    observed: &LocalService,
    state: &MirrorState,
    slices: impl Iterator<Item = (Key, &'a LocalSlice)>,
    why: &Refusal,
    now: Timestamp,
) -> Option<WriteOp> {
    for (slice, there) in slices.filter(|(_, there)| !there.terminating && there.alien_type.is_none()) {
        let body = with_nothing_ready(&there.body);
        if body.endpoints != there.body.endpoints {
            let service = (key.name.clone(), observed.uid.clone());
            return Some(WriteOp::PatchSlice(slice, slice_at(there), MirrorSlice { service, body }));
        }
    }
    condition_patch(key, observed, state, Some(why), now)
}

/// The same addresses, none of them ready.
pub fn with_nothing_ready(body: &SliceBody) -> SliceBody {
    let mut body = body.clone();
    body.endpoints.edit(|all| all.iter_mut().for_each(|e| e.readiness = super::model::Readiness::all(false)));
    body
}

/// The labels, annotations and record of copied keys of a mirror.
pub struct Marks<'a> {
    /// The link: name and uid.
    pub link: (&'a str, &'a str),
    /// The policy.
    pub policy: &'a Key,
    /// The origin.
    pub origin: &'a Key,
    /// uid of the origin.
    pub origin_uid: &'a Uid,
    /// The way, as text.
    pub via: Option<String>,
    /// Labels copied by allow-list.
    pub labels: Map,
    /// Annotations copied by allow-list.
    pub annotations: Map,
}

impl Marks<'_> {
    /// As labels and annotations.
    pub fn render(self) -> (Map, Annotations) {
        let Self { link: (link, link_uid), policy, origin, origin_uid, via, mut labels, mut annotations } = self;
        let record =
            |map: &Map| (!map.is_empty()).then(|| map.keys().map(Text::as_str).collect::<Vec<_>>().join(",").into());
        let records = [
            (COPIED_LABELS_ANNOTATION, record(&labels)),
            (COPIED_ANNOTATIONS_ANNOTATION, record(&annotations)),
            (VIA_ANNOTATION, via.map(Text::from)),
        ];
        labels.extend([
            (MANAGED_BY_LABEL, MANAGER),
            (LINK_LABEL, link),
            (POLICY_LABEL, &policy.name),
            (POLICY_NAMESPACE_LABEL, &policy.namespace),
        ]);
        let records = records.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
        annotations.extend([(LINK_UID_ANNOTATION, link_uid.into())].into_iter().chain(records));
        (labels, Annotations::of(origin, origin_uid, annotations))
    }
}
