use super::*;
use crate::{
    apply::fake::{server, status},
    core::model::Key,
};

fn event(name: &str, note: &str) -> Event {
    let about = About::Policy(Key::new("shop", name), "u1".into());
    Event { about, warning: true, reason: "NameConflict", action: "Mirroring", note: note.into() }
}

/// What becomes of an Event; a new one gets a name, as when it is sent.
fn weigh(recent: &mut Recent, event: &Event, now: Instant) -> Verdict {
    let verdict = recent.weigh(event, now);
    if verdict == Verdict::New {
        recent.named(event, "n1");
    }
    verdict
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_same_event_again_is_counted_and_the_count_is_sent_once_a_minute() {
    let start = Instant::now();
    let mut recent = Recent::new(start);
    let sent: Vec<Verdict> = (0..=120)
        .map(|second| weigh(&mut recent, &event("all", "x"), start + SECOND * second))
        .filter(|verdict| *verdict != Verdict::Counted)
        .collect();
    let again = |count| Verdict::Again { name: "n1".into(), count };
    assert_eq!(sent, [Verdict::New, again(61), again(121)]);
}

#[test]
fn after_a_pause_it_is_a_new_event() {
    let start = Instant::now();
    let mut recent = Recent::new(start);
    assert_eq!(weigh(&mut recent, &event("all", "x"), start), Verdict::New);
    assert_eq!(weigh(&mut recent, &event("all", "x"), start + SERIES), Verdict::New);
}

#[test]
fn an_object_that_makes_noise_is_silenced_and_others_are_heard() {
    let start = Instant::now();
    let mut recent = Recent::new(start);
    let told = |recent: &mut Recent, name: &str, n: u32, now: Instant| {
        (0..n).filter(|i| recent.weigh(&event(name, &format!("{now:?} {i}")), now) == Verdict::New).count()
    };
    assert_eq!(told(&mut recent, "noisy", 1000, start), 25);
    assert_eq!(told(&mut recent, "quiet", 1, start), 1);
    assert_eq!(told(&mut recent, "noisy", 1000, start + PER_OBJECT_EVERY * 2), 2);
}

#[test]
fn many_objects_together_have_a_budget_too_and_bounded_memory() {
    let start = Instant::now();
    let mut recent = Recent::new(start);
    let told = |recent: &mut Recent, range: std::ops::Range<u32>, now| {
        range.filter(|i| recent.weigh(&event(&format!("p{i}"), "x"), now) == Verdict::New).count()
    };
    assert_eq!(told(&mut recent, 0..5000, start), 50);
    assert_eq!(told(&mut recent, 5000..9000, start + SECOND * 10), 10);
    assert_eq!(recent.objects.len(), OBJECTS);
}

#[test]
fn an_event_is_rendered_as_kubernetes_wants_it() {
    let now: Timestamp = "2026-01-02T03:04:05.000006Z".parse().unwrap();
    let rendered = first(&event("all", "taken"), "all.1", "host", now);
    assert_eq!(rendered.path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!(
        rendered.body,
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "all.1"},
            "eventTime": "2026-01-02T03:04:05.000006Z",
            "reportingController": "heliostat.dev/controller",
            "reportingInstance": "host",
            "regarding": {
                "apiVersion": "heliostat.dev/v1alpha1", "kind": "MirrorPolicy",
                "namespace": "shop", "name": "all", "uid": "u1",
            },
            "type": "Warning",
            "reason": "NameConflict",
            "action": "Mirroring",
            "note": "taken",
        })
    );
    let link = About::Link("east".into(), "u2".into());
    assert_eq!(path(&link), "/apis/events.k8s.io/v1/namespaces/default/events");
    assert!(regarding(&link).get("namespace").is_none());
    let counted = again(&link, "east.1", 3, now);
    assert_eq!(counted.path, "/apis/events.k8s.io/v1/namespaces/default/events/east.1");
    let series = json!({"count": 3, "lastObservedTime": "2026-01-02T03:04:05.000006Z"});
    assert_eq!(counted.body, json!({"series": series}));
}

#[test]
fn a_long_note_is_cut_at_a_character() {
    assert_eq!(cut(&"é".repeat(1000), NOTE).len(), 1024);
    assert_eq!(cut(&format!("x{}", "é".repeat(1000)), NOTE).len(), 1023);
    assert_eq!(cut("short", NOTE), "short");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_expired_is_made_anew() {
    let (client, log) =
        server(|asked| async move { if asked.method == "PATCH" { status(404, "NotFound") } else { (201, json!({})) } });
    let (reporter, sender) = Reporter::new(client, Leadership::always(), Arc::default(), "host".into());
    tokio::spawn(sender.run(CancellationToken::new()));
    for _ in 0..3 {
        reporter.report(event("all", "x"));
        tokio::time::sleep(RECOUNT).await;
    }
    let methods: Vec<String> = log.lock().unwrap().iter().map(|asked| asked.method.clone()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_api_server_holds_nobody_up() {
    let (client, _) = server(|_| std::future::pending());
    let metrics = Arc::new(Metrics::default());
    let (reporter, sender) = Reporter::new(client, Leadership::always(), Arc::clone(&metrics), "host".into());
    tokio::spawn(sender.run(CancellationToken::new()));
    let start = Instant::now();
    (0..1000).for_each(|i| reporter.report(event("all", &i.to_string())));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(metrics.encode().unwrap().contains("heliostat_events_dropped_total 744"));
}

#[test]
fn no_two_events_have_one_name() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let link = About::Link("east".into(), "u".into());
    let first = event_name(&link, at("2026-01-02T03:04:05.000006Z"));
    assert!(first.starts_with("east.") && first.len() > "east.".len(), "{first}");
    assert_ne!(first, event_name(&link, at("2026-01-02T03:04:05.000006001Z")));
    assert_ne!(first, event_name(&About::Link("west".into(), "v".into()), at("2026-01-02T03:04:05.000006Z")));
}

#[test]
fn what_was_not_spent_is_not_saved_up_beyond_the_burst() {
    let start = Instant::now();
    let mut budget = Budget::new(2, SECOND, start);
    let taken = |budget: &mut Budget, at| (0..5).filter(|_| budget.take(at)).count();
    assert_eq!(taken(&mut budget, start + SECOND * 10), 2);
    assert_eq!(taken(&mut budget, start + SECOND * 11), 1, "it was full until it was drawn on");
}
