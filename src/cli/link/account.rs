//! Whose account in the exporter it is: how it is named and marked, and how its objects are told
//! from everybody else's.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Secret, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::ApiResource;

use crate::api::names::{IMPORTER_UID_ANNOTATION, LINK_LABEL, MANAGED_BY_LABEL, MANAGER};

/// The account of one link of one importer. Several importers may each have a link of the same
/// name to one exporter, so the importer is part of the name and of the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Account {
    /// Name of the link.
    pub(in crate::cli) link: String,
    /// uid of the importer's kube-system namespace.
    pub(in crate::cli) importer_uid: String,
}

impl Account {
    /// Name of the ServiceAccount and of everything that gives it rights. At most 57 characters,
    /// as a link's name has at most 32.
    pub(in crate::cli) fn name(&self) -> String {
        let importer: String = self.importer_uid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
        format!("heliostat-link-{}-{importer}", self.link)
    }

    /// Labels of all its objects.
    pub(super) fn labels(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([(MANAGED_BY_LABEL, MANAGER), (LINK_LABEL, &self.link)])
    }

    /// Annotations of all its objects.
    pub(super) fn annotations(&self) -> BTreeMap<&'static str, &str> {
        BTreeMap::from([(IMPORTER_UID_ANNOTATION, self.importer_uid.as_str())])
    }

    /// Label selector that finds its objects, and those of other importers' links of this name.
    pub(in crate::cli) fn selector(&self) -> String {
        format!("{MANAGED_BY_LABEL}={MANAGER},{LINK_LABEL}={}", self.link)
    }

    /// Whether an object in the exporter was made for this link of this importer.
    pub(in crate::cli) fn owns(&self, meta: &ObjectMeta) -> bool {
        self.labelled(meta) && value(&meta.annotations, IMPORTER_UID_ANNOTATION) == Some(&self.importer_uid)
    }

    /// Whether an object in the importer was made for this link.
    pub(in crate::cli) fn labelled(&self, meta: &ObjectMeta) -> bool {
        value(&meta.labels, MANAGED_BY_LABEL) == Some(MANAGER) && value(&meta.labels, LINK_LABEL) == Some(&self.link)
    }
}

/// The value of a label or annotation.
pub(in crate::cli) fn value<'a>(map: &'a Option<BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map.as_ref()?.get(key).map(String::as_str)
}

/// The kinds that an account consists of, in the order in which they may be removed: what uses
/// another goes first.
pub(in crate::cli) fn kinds() -> [ApiResource; 6] {
    [
        ApiResource::erase::<RoleBinding>(&()),
        ApiResource::erase::<ClusterRoleBinding>(&()),
        ApiResource::erase::<Role>(&()),
        ApiResource::erase::<ClusterRole>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { link: "e".repeat(32), importer_uid: "1b9f03aa-7c1e-4d11-9a53-0123456789ab".to_owned() }
    }

    #[test]
    fn its_name_says_link_and_importer_and_fits_a_label() {
        let name = account().name();
        assert_eq!(name, format!("heliostat-link-{}-1b9f03aa", "e".repeat(32)));
        assert!(name.len() <= 63);
    }

    #[test]
    fn another_importers_account_of_the_same_link_name_is_not_ours() {
        let ours = account();
        let theirs = Account { importer_uid: "ffff".to_owned(), ..ours.clone() };
        let owned =
            |map: BTreeMap<&str, &str>| Some(map.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        let meta = ObjectMeta {
            labels: owned(theirs.labels()),
            annotations: owned(theirs.annotations()),
            ..ObjectMeta::default()
        };
        assert!(theirs.owns(&meta));
        assert!(!ours.owns(&meta));
        assert!(!ours.owns(&ObjectMeta { labels: owned(ours.labels()), ..ObjectMeta::default() }));
        assert!(!ours.owns(&ObjectMeta::default()));
    }
}
