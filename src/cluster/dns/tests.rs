use std::sync::Mutex;

use super::*;

/// Answers from a table that the test changes; counts the questions.
#[derive(Default)]
struct Table(Mutex<(Answers, usize)>);

type Answers = BTreeMap<String, Result<Answer, String>>;

impl Table {
    fn set(&self, host: &str, addresses: &[&str], ttl: u64) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.0.lock().unwrap().0.insert(host.to_owned(), Ok(Answer { addresses, ttl: Duration::from_secs(ttl) }));
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Lookup for Table {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        let mut table = self.0.lock().unwrap();
        table.1 += 1;
        let answer = table.0.get(host).cloned().unwrap_or_else(|| Err("gone".into()));
        Box::pin(async move { answer })
    }
}

struct Rig {
    table: Arc<Table>,
    hosts: watch::Sender<Hosts>,
    inputs: mpsc::Receiver<Input>,
}

fn rig() -> Rig {
    let table = Arc::new(Table::default());
    let (hosts, list) = watch::channel(Hosts::new());
    let (out, inputs) = mpsc::channel(16);
    tokio::spawn(Keeper::new(table.clone(), out).keep(list));
    Rig { table, hosts, inputs }
}

impl Rig {
    fn keep(&self, hosts: &[&str]) {
        self.hosts.send_replace(hosts.iter().map(|h| ((*h).to_owned(), "east".to_owned())).collect());
    }

    /// What is said within that many seconds.
    async fn heard(&mut self, seconds: u64) -> Vec<(String, Result<Vec<String>, String>, bool)> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut heard = Vec::new();
        while let Ok(input) = self.inputs.try_recv() {
            let Input::Resolved { host, answer, expired } = input else { panic!("{input:?}") };
            heard.push((host, answer.map(|list| list.iter().map(ToString::to_string).collect()), expired));
        }
        heard
    }
}

fn good(addresses: &[&str]) -> (String, Result<Vec<String>, String>, bool) {
    ("gw.example".into(), Ok(addresses.iter().map(|a| (*a).to_owned()).collect()), false)
}

#[tokio::test(start_paused = true)]
async fn g01_addresses_follow_within_the_ttl_and_only_changes_are_told() {
    let mut rig = rig();
    rig.table.set("gw.example", &["10.0.0.1", "10.0.0.2", "2001:db8::1"], 30);
    rig.keep(&["gw.example"]);
    assert_eq!(rig.heard(1).await, [good(&["10.0.0.1", "10.0.0.2", "2001:db8::1"])]);
    assert_eq!(rig.heard(100).await, []);
    rig.table.set("gw.example", &["10.0.0.1", "2001:db8::1"], 30);
    assert_eq!(rig.heard(31).await, [good(&["10.0.0.1", "2001:db8::1"])]);
    rig.table.asked();
    rig.heard(3000).await;
    assert_eq!(rig.table.asked(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_ttl_has_a_floor_and_a_ceiling() {
    let mut rig = rig();
    rig.table.set("gw.example", &["10.0.0.1"], 0);
    rig.keep(&["gw.example"]);
    rig.heard(1).await;
    rig.table.asked();
    rig.heard(100).await;
    assert_eq!(rig.table.asked(), 20);
    rig.table.set("gw.example", &["10.0.0.1"], 86_400);
    rig.heard(5).await;
    rig.table.asked();
    rig.heard(3000).await;
    assert_eq!(rig.table.asked(), 10);
}

#[tokio::test(start_paused = true)]
async fn g01_the_last_good_answer_expires_an_hour_past_its_ttl() {
    let mut rig = rig();
    rig.table.set("gw.example", &["10.0.0.1"], 60);
    rig.keep(&["gw.example"]);
    rig.heard(1).await;
    rig.table.0.lock().unwrap().0.clear();
    let gone = |expired| ("gw.example".to_owned(), Err("gone".to_owned()), expired);
    assert_eq!(rig.heard(60).await, [gone(false)]);
    assert_eq!(rig.heard(3600 - 5).await, []);
    assert_eq!(rig.heard(70).await, [gone(true)]);
    rig.table.set("gw.example", &["10.0.0.9"], 60);
    assert_eq!(rig.heard(61).await, [good(&["10.0.0.9"])]);
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go_and_one_that_never_resolved_expires_after_an_hour() {
    let mut rig = rig();
    rig.keep(&["a.example", "gw.example"]);
    let gone = |host: &str, expired| (host.to_owned(), Err("gone".to_owned()), expired);
    assert_eq!(rig.heard(3500).await, [gone("a.example", false), gone("gw.example", false)]);
    let mut later = rig.heard(10_000).await;
    later.sort();
    assert_eq!(later, [gone("a.example", true), gone("gw.example", true)]);
    rig.table.set("gw.example", &["10.0.0.1"], 60);
    assert_eq!(rig.heard(61).await, [good(&["10.0.0.1"])]);
    rig.keep(&[]);
    rig.heard(100).await;
    rig.table.asked();
    rig.heard(1000).await;
    assert_eq!(rig.table.asked(), 0);
    rig.keep(&["gw.example"]);
    assert_eq!(rig.heard(1).await, [good(&["10.0.0.1"])]);
}

#[tokio::test]
async fn names_that_are_none_are_not_asked_for() {
    for bad in ["", "a b", "a..b", "10.0.0.1:80", "[::1]", "x_y.example"] {
        assert!(SystemLookup::default().lookup(bad).await.unwrap_err().ends_with("is not a host name"), "{bad}");
    }
}

/// Answers at once, but to names that begin with `slow` never.
struct Slow;

impl Lookup for Slow {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            if host.starts_with("slow") {
                tokio::time::sleep(LOOKUP_DEADLINE).await;
                return Err("no answer".to_owned());
            }
            Ok(Answer { addresses: vec!["10.0.0.1".parse().unwrap()], ttl: Duration::from_secs(30) })
        })
    }
}

/// A link with hundreds of names that nobody answers for delays no other link's, old or new, and all of its own have their turn.
#[tokio::test(start_paused = true)]
async fn names_without_an_answer_delay_no_other_link() {
    let (out, mut inputs) = mpsc::channel(100_000);
    let (hosts, list) = watch::channel(Hosts::new());
    tokio::spawn(Keeper::new(Arc::new(Slow), out).keep(list));
    let mut wanted: Hosts = (0..600).map(|i| (format!("slow-{i:03}.example"), "bad".to_owned())).collect();
    wanted.insert("slower-gw.example".to_owned(), "bad".to_owned());
    wanted.insert("z-old.example".to_owned(), "good".to_owned());
    hosts.send_replace(wanted.clone());
    let mut heard = async |within: Duration| {
        tokio::time::sleep(within).await;
        let mut heard = std::collections::BTreeSet::new();
        while let Ok(Input::Resolved { host, .. }) = inputs.try_recv() {
            heard.insert(host);
        }
        heard
    };
    assert_eq!(heard(Duration::from_secs(1)).await, ["z-old.example".to_owned()].into());
    tokio::time::sleep(Duration::from_secs(60)).await;
    wanted.insert("z-new.example".to_owned(), "good".to_owned());
    hosts.send_replace(wanted);
    assert!(heard(Duration::from_secs(1)).await.contains("z-new.example"));
    // Eight at a time, ten seconds each: a quarter of an hour, if none were asked again.
    let of_bad = heard(Duration::from_secs(3600)).await;
    assert!(of_bad.contains("slow-599.example") && of_bad.contains("slower-gw.example"), "{}", of_bad.len());
}

/// Answers at once, but panics for names that begin with `bad`.
struct Panics;

impl Lookup for Panics {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async move {
            assert!(!host.starts_with("bad"), "as a resolver should not");
            Ok(Answer { addresses: vec!["10.0.0.1".parse().unwrap()], ttl: Duration::from_secs(30) })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_panics_keeps_no_place() {
    let (out, mut inputs) = mpsc::channel(100);
    let (hosts, list) = watch::channel(Hosts::new());
    tokio::spawn(Keeper::new(Arc::new(Panics), out).keep(list));
    let bad = (0..3 * MAX_OF_A_LINK).map(|i| (format!("bad-{i}.example"), "east".to_owned()));
    hosts.send_replace(bad.chain([("gw.example".to_owned(), "east".to_owned())]).collect());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Ok(Input::Resolved { host, .. }) = inputs.try_recv() else { panic!("a name of the same link has no answer") };
    assert_eq!(host, "gw.example");
}
