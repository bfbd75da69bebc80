//! The behaviour catalogue on two real clusters: the importer west, in which the controller runs as a
//! pod from the shipped manifests, and the exporter east. Each test is named by the id of its row.
//!
//! `make e2e` makes the clusters and runs this. Tests have namespaces and a link of their own and run
//! side by side; those named `alone_*` disturb the others and run one by one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![recursion_limit = "256"]

mod admission;
mod admission_exporter;
mod api_server;
mod audit;
mod audit_log;
#[path = "../tests/simulation/behaviour/mod.rs"]
mod behaviour;
mod controller;
mod crd_rules;
mod direct;
mod exports;
mod faults;
mod figures;
mod fixture;
mod forger;
mod guard;
mod hostile;
mod isolation;
mod landing;
mod link_life;
mod mirroring;
mod names;
mod nodes;
mod objects;
mod ownership;
mod packets;
mod partitions;
mod policies;
mod provider_objects;
mod relay;
mod repair;
mod replicas;
mod restart;
mod restored;
mod rig;
mod slow;
mod support;
mod traffic;
mod twins;
mod unlink;
mod ways;

use support::client;

#[tokio::test]
async fn crds_accept_and_refuse_by_each_rule() {
    crd_rules::each_rule_accepts_and_refuses(client("west").await).await;
}

#[tokio::test]
async fn crds_keep_a_binding_on_its_side() {
    crd_rules::a_binding_does_not_change_sides(client("west").await).await;
}

#[tokio::test]
async fn crds_fill_in_defaults_and_an_unobserved_status() {
    crd_rules::a_new_object_has_defaults_and_an_unobserved_status(client("west").await).await;
}

#[tokio::test]
async fn crds_keep_and_show_a_full_status() {
    crd_rules::a_full_status_is_kept_and_shown(client("west").await).await;
}

#[tokio::test]
async fn admission_holds_the_controller_to_its_mirrors() {
    admission::the_controllers_account_is_held_to_its_mirrors(client("west").await).await;
}
