//! What the importer's API server allows: how many pairs of a Service and its slice a loop that does
//! nothing else makes in it.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{
    bare,
    clusters::Importer,
    machine,
    mirrors::Mirror,
    results::{Limits, PairRate},
};

/// How many are made at a time.
const AT_A_TIME: [usize; 3] = [1, 8, 32];

/// Makes the mirrors again and again.
pub(crate) async fn measure(importer: &Importer, mirrors: &[Mirror]) -> anyhow::Result<Limits> {
    ensure!(!mirrors.is_empty(), "there is nothing to be made");
    let mut pairs = Vec::new();
    for at_a_time in AT_A_TIME {
        machine::say(&format!("the bare loop makes {} pairs, {at_a_time} at a time", mirrors.len()));
        importer.clear().await?;
        let start = Instant::now();
        let writes_ms = bare::write(&importer.kubeconfig, mirrors, at_a_time).await?;
        let total_ms = start.elapsed().as_secs_f64() * 1e3;
        pairs.push(PairRate { at_a_time, pairs: mirrors.len(), total_ms, writes_ms });
        importer.quiet(Duration::from_secs(1)).await?;
    }
    Ok(Limits { pairs })
}
