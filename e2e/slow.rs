//! A link by a slow line: its listing takes long, and nobody else waits for it.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::json;

use crate::{
    figures::Spread,
    fixture::{SOON, exported},
    objects::{condition, says, wait},
    relay::Relay,
    rig::api_server,
    support::Case,
};

/// Origins behind the slow line.
const MANY: usize = 150;
/// What the line carries, and how late. One page of the listing may take a minute.
const BYTES_PER_SECOND: u32 = 16 << 10;
const LATENCY: Duration = Duration::from_millis(150);
/// That many Services are some 280 KiB of JSON, which each of two replicas reads.
const LISTED: Duration = Duration::from_secs(40);
/// Fewest changes by the quick link while the slow one lists.
const FEWEST: usize = 5;

/// Promise 6: a link whose listing takes half a minute is never said to be lost, comes in sync and is
/// followed; changes by another link of the same controller are there at once meanwhile.
#[tokio::test]
async fn a_link_by_a_slow_line_comes_in_sync_and_delays_no_other_one() {
    let (slow, quick) = (Case::new("slow-line").await, Case::new("quick-line").await);
    quick.export("books", "203.0.113.5").await;
    quick.leads_to("books-quick-line", &["203.0.113.5:80 http", "203.0.113.5:9090 grpc"]).await;
    // The link is made anew by the slow line when all is there.
    slow.links().delete("slow-line").await;
    let all = stream::iter(0..MANY).map(|i| {
        let slow = &slow;
        async move {
            let name = format!("s{i}");
            slow.origins().create(&exported(&name, json!({}))).await;
            slow.load_balancer(&name, json!([{"ip": "203.0.113.5"}])).await;
        }
    });
    all.buffer_unordered(16).collect::<Vec<()>>().await;
    let line = Relay::slow(api_server("east"), BYTES_PER_SECOND, LATENCY).await;
    slow.link_again(line.address).await;

    let (start, mut times) = (Instant::now(), Vec::new());
    loop {
        let link = slow.links().get("slow-line").await.unwrap();
        assert_ne!(says(&link, "Connected").0, "False", "{:?}", condition(&link, "Connected"));
        if says(&link, "Synced").0 == "True" {
            break;
        }
        assert!(start.elapsed() < 5 * LISTED, "not in sync; last seen: {}", link["status"]);
        let address = format!("203.0.113.{}", 6 + times.len() % 2);
        let changed = Instant::now();
        quick.load_balancer("books", json!([{"ip": address}])).await;
        let wanted = [format!("{address}:80 http"), format!("{address}:9090 grpc")];
        quick.leads_to("books-quick-line", &wanted.each_ref().map(String::as_str)).await;
        times.push(changed.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("slow-line: in sync after {} ms", start.elapsed().as_millis());
    assert!(times.len() >= FEWEST, "the line was not slow: {} changes", times.len());
    println!("slow-line: changes by the quick link meanwhile: {}", Spread::of(times));

    wait("slow-line: all are mirrored", 5 * SOON, || async {
        let there = (slow.mirrors().all().await.len(), slow.mirror_slices().all().await.len());
        if there == (MANY, MANY) { Ok(()) } else { Err(there) }
    })
    .await;
    slow.load_balancer("s0", json!([{"ip": "203.0.113.6"}])).await;
    slow.leads_to("s0-slow-line", &["203.0.113.6:80 http", "203.0.113.6:9090 grpc"]).await;
    slow.link_says("Connected", "True", "Connected", SOON).await;
}
