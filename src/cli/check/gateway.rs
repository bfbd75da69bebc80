//! Exercises a gateway of a linked cluster: reads what it publishes as the controller reads it, holds it
//! against the contract, and asks it over the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{anyhow, bail};
use futures::future::join_all;

use super::{
    asks,
    book::{Book, Check},
    contract::{self, Scene, Slice},
    judge::{self, Known},
    traffic::{self, Patience},
};
use crate::{
    api::policy::DEFAULT_NAME,
    cli::{
        connect::Cluster,
        link,
        output::Progress,
        survey::{ControllerFlags, Snapshot, Survey},
    },
    cluster::dns::{Lookup, SystemLookup},
    core::{
        claim::Claims,
        model::{AddressType, Key},
        name::Variables,
        way::hostname,
    },
};

const PUBLISHED: &str = "something is published";
/// Most hostnames that are resolved; a gateway has one or two.
const MAX_HOSTS: usize = 64;

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) link: &'a str,
    pub(super) binding: &'a str,
    pub(super) path: &'a str,
}

/// Makes the checks.
///
/// # Errors
/// This cluster or the exporter cannot be read, or there is no such link.
pub(super) async fn check(
    cluster: &Cluster,
    flags: &ControllerFlags,
    asked: &Asked<'_>,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Check>> {
    progress.wait("reading this cluster");
    let mut snapshot = Snapshot::read(cluster).await?;
    if !snapshot.links.contains_key(asked.link) {
        let links: Vec<_> = snapshot.links.into_values().map(|link| *link).collect();
        return Err(link::no_such_link(asked.link, &links, cluster));
    }
    snapshot.links.retain(|name, _| name == asked.link);
    let survey = Survey::take(cluster, flags, snapshot, progress).await;
    let (slices, known) = published(&survey, asked.link).await?;
    let Some(link) = survey.engine.world().links.get(asked.link) else { bail!("link {} went away", asked.link) };
    let spec = link.checked.as_ref().map_err(|refusal| anyhow!("link {}: {}", asked.link, refusal.message))?;
    let addresses = survey.engine.world().address_policy(spec);
    let by_default = |origin: &Key| by_default(asked.link, origin, &flags.cluster_domain);
    let scene = Scene {
        binding: asked.binding,
        services: &link.remote.services,
        slices: &link.remote.slices,
        addresses: &addresses,
        mirrors: mirrors(survey.engine.claims(), asked.link, &flags.cluster_domain),
        by_default: &by_default,
        hosts: resolve(&slices, asked.binding, &SystemLookup::default()).await,
    };
    Ok(exercise(&scene, &slices, known, asked, progress).await)
}

async fn exercise(
    scene: &Scene<'_>,
    slices: &[Slice],
    known: Known,
    asked: &Asked<'_>,
    progress: &mut Progress,
) -> Vec<Check> {
    let mut book = Book::default();
    book.hold(PUBLISHED, "", something(slices, asked));
    let used = contract::check(scene, slices, &mut book);
    if slices.iter().any(|slice| slice.is_of(asked.binding)) {
        let nonce = format!("{:08x}", fastrand::u32(..));
        let asks = asks::asks(scene, &used, slices, (asked.path, &nonce), &mut book);
        let all = asks.len();
        let asking = |done: usize| progress.wait(&format!("asking the gateway from this machine: {done} of {all}"));
        let answers = traffic::ask_all(asks, Patience::default(), asking).await;
        judge::judge(&answers, known, &mut book);
    }
    book.finish()
}

/// All slices with a binding's label, and whether those are all.
async fn published(survey: &Survey, link: &str) -> anyhow::Result<(Vec<Slice>, Known)> {
    let cannot = |why: &str| anyhow!("cannot read the exporter of link {link}: {why}");
    if let Some(why) = survey.unread.get(link) {
        return Err(cannot(why));
    }
    let Some(exporter) = survey.exporters.get(link) else {
        return Err(cannot("the link is suspended, or its spec is not accepted; see heliostat status"));
    };
    let (found, all) = exporter.published().await.map_err(|why| cannot(&why))?;
    let slices = found.into_iter().map(|(key, object)| Slice::new(key, object)).collect();
    Ok((slices, if all { Known::All } else { Known::OfSomeNamespaces }))
}

fn something(slices: &[Slice], asked: &Asked<'_>) -> Result<String, String> {
    let count = slices.iter().filter(|slice| slice.is_of(asked.binding)).count();
    if count > 0 {
        return Ok(format!("{count} slices"));
    }
    Err(format!(
        "no EndpointSlice that link {} may read has the label {}: {}; is that the binding's name over there, and is a Service exported through it?",
        asked.link,
        crate::api::names::PUBLISHED_BINDING_LABEL,
        asked.binding
    ))
}

/// The full names of an origin's mirrors, as policies want them.
fn mirrors(claims: &Claims, link: &str, domain: &str) -> BTreeMap<Key, BTreeSet<String>> {
    let mut mirrors: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
    for (id, claim) in claims.of_link(link) {
        if let Some(target) = &claim.target {
            let name = format!("{}.{}.svc.{domain}", target.name, target.namespace);
            mirrors.entry(id.origin.clone()).or_default().insert(name);
        }
    }
    mirrors
}

fn by_default(link: &str, origin: &Key, domain: &str) -> Option<String> {
    let name = Variables { link, origin }.mirror_name(DEFAULT_NAME).ok()?;
    Some(format!("{name}.{}.svc.{domain}", origin.namespace))
}

/// What the hostnames resolve to that the binding publishes.
async fn resolve(
    slices: &[Slice],
    binding: &str,
    lookup: &dyn Lookup,
) -> BTreeMap<String, Result<Vec<IpAddr>, String>> {
    let fqdn = slices.iter().filter(|slice| slice.is_of(binding)).filter_map(Slice::published);
    let fqdn = fqdn.filter(|(read, _)| read.address_type == AddressType::Fqdn);
    let hosts: Vec<String> = fqdn
        .flat_map(|(read, _)| &read.endpoints)
        .filter_map(|endpoint| hostname(&endpoint.address.as_ref()?.as_text()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(MAX_HOSTS)
        .collect();
    let found = hosts.into_iter().map(|host| async {
        let answer = lookup.lookup(&host).await.map(|answer| answer.addresses);
        (host, answer)
    });
    join_all(found).await.into_iter().collect()
}

#[cfg(test)]
mod tests;
