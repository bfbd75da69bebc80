//! Names of mirrors: long ones.

use serde_json::json;

use crate::{
    fixture::{SOON, assert_untouched},
    objects::wait,
    support::Case,
};

/// M13: a name over 63 characters is cut and closed by a hash, the same each time.
#[tokio::test]
async fn m13_long_names_are_cut_and_do_not_collide() {
    let case = Case::new("m13").await;
    let stem = "b".repeat(62);
    // 8 hex digits of SHA-256 of link/namespace/service, by sha256sum.
    let names = [("x", "6ab1cb78"), ("y", "20278b80")]
        .map(|(last, hash)| (format!("{stem}{last}"), format!("{}-{hash}", &stem[..54])));
    for ((origin, _), address) in names.iter().zip(["203.0.113.1", "203.0.113.2"]) {
        assert_eq!(origin.len(), 63);
        case.export(origin, address).await;
    }
    let [x, y] = [&names[0].1, &names[1].1];
    let mut wanted = [x.as_str(), y.as_str()];
    wanted.sort_unstable();
    case.has_services(&wanted).await;
    case.leads_to(x, &["203.0.113.1:80 http", "203.0.113.1:9090 grpc"]).await;
    case.leads_to(y, &["203.0.113.2:80 http", "203.0.113.2:9090 grpc"]).await;
    for (origin, mirror) in &names {
        let service = case.mirrors().get(mirror).await.unwrap();
        assert_eq!(service["metadata"]["annotations"]["heliostat.dev/origin"], format!("m13/{origin}"));
    }
    case.failures(&[]).await;

    let before = case.landed().await;
    case.mirrors().delete(x).await;
    wait("m13: the same name again", SOON, || async {
        let there = case.mirrors().get(x).await.ok_or("no mirror")?;
        if there["metadata"]["uid"] == before[&format!("Service {x}")]["metadata"]["uid"] {
            return Err("not deleted yet");
        }
        Ok(())
    })
    .await;
    case.leads_to(x, &["203.0.113.1:80 http", "203.0.113.1:9090 grpc"]).await;
    let of_y = |(key, _): &(&String, _)| key.contains(y.as_str());
    let after = case.landed().await;
    let [before, after] =
        [&before, &after].map(|all| all.iter().filter(of_y).map(|(k, v)| (k.clone(), v.clone())).collect());
    assert_untouched(&before, &after);

    case.policies().patch("all", json!({"spec": {"mirror": {"name": "{namespace}-{service}-{link}"}}})).await;
    wait("m13: a longer template, cut as well", SOON, || async {
        let all: Vec<String> = case.mirrors().all().await.into_keys().collect();
        let fits = all.len() == 2 && all.iter().all(|name| name.len() == 63 && name.starts_with("m13-bbb"));
        if fits { Ok(()) } else { Err(all) }
    })
    .await;
}
